import { once } from "node:events";
import { connect, createServer } from "node:net";
import { type TcpAddress, tcpAddress } from "./addresses.ts";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";

/** Whether a node could listen where it is told to; while one runs, whether it is it that listens there. */
export async function* checkPorts(
  listen: readonly string[],
  running: readonly string[] | undefined,
): AsyncGenerator<CheckLine> {
  for (const text of listen) {
    const address = tcpAddress(text);
    if (address === undefined) yield ok("ports", `${text} is not tried: it is not plain TCP`);
    else if (running === undefined) yield await tryToListen(text, address);
    else if (listensAt(running, address)) yield ok("ports", `the running node listens at ${text}`);
    else
      yield warning("ports", `the running node does not listen at ${text}`, "restart it: the configuration is newer");
  }
}

/** Whether something that speaks libp2p answers at each bootstrap peer. */
export async function* checkBootstrap(
  peers: readonly string[],
  options: { readonly otherWay: boolean },
): AsyncGenerator<CheckLine> {
  if (peers.length === 0) return yield ok("bootstrap", "no bootstrap peers are configured");
  const results = await Promise.all(peers.map(async (text) => ({ text, fault: await peerFault(text) })));
  const isLost = results.every(({ fault }) => fault !== undefined) && !options.otherWay;
  for (const { text, fault } of results) {
    if (fault === undefined) yield ok("bootstrap", `${text} answers`);
    else {
      const hint = "is the machine on, its node running, and the port open in its firewall?";
      yield (isLost ? failure : warning)("bootstrap", `${text} ${fault}`, hint);
    }
  }
}

async function tryToListen(text: string, { host, port }: TcpAddress): Promise<CheckLine> {
  const server = createServer();
  try {
    server.listen({ host, port, exclusive: true });
    await once(server, "listening");
    return ok("ports", `a node can listen at ${text}`);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    const [reason, hint] = listenFaults.get(code) ?? [`listening fails with ${code}`, "set another node.listen"];
    return failure("ports", `no node can listen at ${text}: ${reason}`, hint);
  } finally {
    server.close();
  }
}

const listenFaults: ReadonlyMap<string, readonly [reason: string, hint: string]> = new Map([
  ["EADDRINUSE", ["another program has the port", "see which one with `ss -ltnp`, or set another port in node.listen"]],
  ["EADDRNOTAVAIL", ["no interface of this machine has the address", "write one that `ip addr` shows, or 0.0.0.0"]],
  ["EACCES", ["the port is not for ordinary users", "set a port above 1023 in node.listen"]],
]);

function listensAt(running: readonly string[], { port }: TcpAddress): boolean {
  return running.some((text) => port === 0 || tcpAddress(text)?.port === port);
}

/** Why a peer counts as out of reach; undefined where it speaks libp2p. */
async function peerFault(text: string): Promise<string | undefined> {
  const address = tcpAddress(text);
  if (address === undefined) return "is not tried: it is not plain TCP";
  const socket = connect(address);
  const signal = AbortSignal.timeout(peerMs);
  try {
    await once(socket, "connect", { signal });
    socket.write(multistreamHeader);
    let said: Buffer = Buffer.alloc(0);
    // It may come in pieces.
    while (said.length < multistreamHeader.length && multistreamHeader.subarray(0, said.length).equals(said)) {
      const [bytes] = (await once(socket, "data", { signal })) as [Buffer];
      said = Buffer.concat([said, bytes]);
    }
    const isLibp2p = said.subarray(0, multistreamHeader.length).equals(multistreamHeader);
    return isLibp2p ? undefined : "is another program: what answers there is no node";
  } catch (error) {
    if (signal.aborted) return `does not answer within ${peerMs / 1000} s`;
    return `cannot be reached: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`;
  } finally {
    socket.on("error", () => undefined);
    socket.destroy();
  }
}

/** What both sides of a libp2p connection say first (multiformats/multistream-select, "Protocol"). */
const multistreamHeader: Buffer = Buffer.from("\u0013/multistream/1.0.0\n");
/** A node on a busy machine may take its time. */
const peerMs = 4_000;
