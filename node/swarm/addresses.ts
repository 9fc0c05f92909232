import { multiaddr } from "@multiformats/multiaddr";
import type { PeerName } from "../../protocol/directory.ts";
import { isLinkLocal, isLoopback, isUnicast, type Segment } from "./interfaces.ts";

/** A place where a member listens: an IP address and a TCP port, nothing else is ever dialled. */
export interface MemberAddress {
  readonly ip: string;
  readonly port: number;
  /** Its multiaddr, without a peer id. */
  readonly text: string;
}

/**
 * What of a stranger's text is an address of a member; undefined for a name to be looked up, for another transport, for
 * a relay, for another peer's id, and for what no neighbour can listen at.
 */
export function addressOf(text: string, peer?: PeerName): MemberAddress | undefined {
  if (text.length > addressTextMax) return undefined;
  try {
    const [host, transport, id, ...rest] = multiaddr(text).getComponents();
    if ((host?.name !== "ip4" && host?.name !== "ip6") || transport?.name !== "tcp" || rest.length > 0)
      return undefined;
    if (id !== undefined && (id.name !== "p2p" || (peer !== undefined && id.value !== peer))) return undefined;
    const [ip, port] = [host.value ?? "", Number(transport.value)];
    if (!isUnicast(ip) || !Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
    return { ip, port, text: `/${host.name}/${ip}/tcp/${port}` };
  } catch {
    return undefined;
  }
}

/**
 * What this node tells others about where it listens: addresses of its usable segments, loopback only when asked for.
 * `listening` are multiaddrs; undefined segments count for nothing.
 */
export function announcedAddresses(
  listening: readonly string[],
  segments: readonly Segment[],
  withLoopback: boolean,
): string[] {
  const own = new Set(segments.map(({ address }) => address));
  const all = listening.flatMap((text) => {
    const address = addressOf(text);
    if (address === undefined || (isLoopback(address.ip) && !withLoopback)) return [];
    return own.has(address.ip) ? [address] : [];
  });
  const routed = all.filter(({ ip }) => !isLinkLocal(ip));
  return [...new Set((routed.length > 0 ? routed : all).map(({ text }) => text))];
}

/**
 * Of the addresses that a member announced, those that may be dialled: loopback only by a node that announces its own,
 * since on any other machine it means somebody else.
 */
export function dialable(addresses: readonly string[], peer: PeerName, withLoopback: boolean): string[] {
  return addresses.flatMap((text) => {
    const address = addressOf(text, peer);
    return address === undefined || (isLoopback(address.ip) && !withLoopback) ? [] : [address.text];
  });
}

const addressTextMax = 200;
