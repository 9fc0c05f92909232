import { BlockList, isIP, isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";

/** One address of this machine by which neighbours may reach it, and the segment that it is on. */
export interface Segment {
  /** The interface's name. */
  readonly name: string;
  readonly address: string;
  readonly family: "IPv4" | "IPv6";
  readonly isLoopback: boolean;
  /** Whether an address lies on this segment. */
  readonly contains: (address: string) => boolean;
}

/** What `os.networkInterfaces` answers: an argument, for tests. */
export type Interfaces = ReturnType<typeof networkInterfaces>;

/**
 * The segments on which this machine has neighbours: without loopback unless asked for, without the bridges that
 * container and virtual machine hosts make, and link-local addresses only where an interface has no other. An interface
 * that is down or has no carrier is not listed by the system.
 */
export function usableSegments(withLoopback: boolean, interfaces: Interfaces = networkInterfaces()): Segment[] {
  return Object.entries(interfaces).flatMap(([name, addresses = []]) => {
    if (hostOnly.test(name)) return [];
    const all = addresses.flatMap(({ address, netmask, cidr, internal, family }) => {
      if (internal && !withLoopback) return [];
      const prefix = Number(cidr?.split("/")[1] ?? (netmask === "" ? Number.NaN : 32));
      const contains = Number.isInteger(prefix) ? subnet(address, prefix, family) : () => false;
      return [{ name, address, family, isLoopback: internal, contains }];
    });
    const routed = all.filter(({ address }) => !isLinkLocal(address));
    return routed.length > 0 ? routed : all;
  });
}

/** Whether an address means only this machine. */
export function isLoopback(address: string): boolean {
  return address === "::1" || /^127\./.test(address) || /^::ffff:127\./i.test(address);
}

/** Whether an address means something on one segment only (RFC 3927, RFC 4291). */
export function isLinkLocal(address: string): boolean {
  return address.startsWith("169.254.") || /^fe[89ab][0-9a-f]:/i.test(address);
}

/** Whether a text is an address that a neighbour can be dialled at: neither unspecified, nor multicast, nor anything. */
export function isUnicast(address: string): boolean {
  if (isIP(address) === 0) return false;
  if (isIPv6(address)) return !/^(::|ff[0-9a-f]{2}:)/i.test(address);
  const first = Number(address.split(".")[0]);
  return first > 0 && first < 224;
}

function subnet(address: string, prefix: number, family: "IPv4" | "IPv6"): (other: string) => boolean {
  const kind = family === "IPv4" ? "ipv4" : "ipv6";
  const list = new BlockList();
  list.addSubnet(address, prefix, kind);
  return (other) => isIP(other) === (family === "IPv4" ? 4 : 6) && list.check(other, kind);
}

/** Interfaces that lead to containers and virtual machines of this host: their addresses are the same on every host. */
const hostOnly =
  /^(docker|veth|br-|virbr|cni|flannel|cali|lxc|lxdbr|podman|vnet|vmnet|vboxnet|kube|nerdctl|weave|dummy)/;
