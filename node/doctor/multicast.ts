import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { type CheckLine, ok, warning } from "./check-line.ts";

/**
 * Whether this machine can send multicast on each of its interfaces and hears what it sent. The packets do not leave the
 * machine (TTL 0): whether the network carries them only a neighbour can say.
 */
export async function* checkMulticast(options: { readonly mdns: boolean }): AsyncGenerator<CheckLine> {
  if (!options.mdns) return yield ok("multicast", "not tried: node.mdns is off");
  const addresses = Object.entries(networkInterfaces()).flatMap(([name, each = []]) =>
    each.filter(({ family, internal }) => family === "IPv4" && !internal).map(({ address }) => ({ name, address })),
  );
  if (addresses.length === 0) {
    return yield warning("multicast", "no interface but loopback has an IPv4 address: no neighbour can be found");
  }
  const results = await Promise.all(addresses.map(async (each) => ({ ...each, fault: await faultOf(each.address) })));
  for (const { name, address, fault } of results) {
    if (fault === undefined) yield ok("multicast", `${name} (${address}) sends, and hears itself`);
    else {
      const hint = `ip route add 224.0.0.0/4 dev ${name}, open UDP in the firewall, or name peers in node.bootstrap`;
      yield warning("multicast", `${name} (${address}) ${fault}: neighbours there are not found by mDNS`, hint);
    }
  }
}

async function faultOf(address: string): Promise<string | undefined> {
  const socket = createSocket({ type: "udp4", reuseAddr: true });
  const signal = AbortSignal.timeout(waitMs);
  try {
    socket.bind(0);
    await once(socket, "listening", { signal });
    socket.addMembership(group, address);
    socket.setMulticastInterface(address);
    socket.setMulticastLoopback(true);
    socket.setMulticastTTL(0);
    const heard = once(socket, "message", { signal });
    heard.catch(() => undefined);
    await send(socket);
    await heard;
    return undefined;
  } catch (error) {
    if (signal.aborted) return "does not hear what it sends";
    return `cannot use multicast (${(error as NodeJS.ErrnoException).code ?? (error as Error).message})`;
  } finally {
    socket.close();
  }
}

function send(socket: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.send("p2pcache doctor", socket.address().port, group, (error) => (error ? reject(error) : resolve()));
  return promise;
}

/** That of mDNS (RFC 6762, section 3). */
const group = "224.0.0.251";
const waitMs = 1_500;
