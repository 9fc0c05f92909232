import { once } from "node:events";
import { ControlServer } from "./http/control.ts";
import type { Log } from "./log.ts";
import { CacheNode } from "./node.ts";
import type { Settings } from "./settings/schema.ts";

export interface ServiceOptions {
  readonly version: string;
  readonly log: Log;
  /** End when nobody has called for this long; undefined: never. */
  readonly lingerMs?: number;
  /** Called once the sockets answer. */
  readonly onReady: (node: CacheNode, sockets: { readonly socket: string; readonly adminSocket: string }) => void;
  readonly signal: AbortSignal;
}

/**
 * Runs a node with its local API until the signal is aborted, an admin stops it, or nobody needs it any more.
 * @throws what `CacheNode.open` and `ControlServer.open` throw.
 */
export async function runNode(settings: Settings, options: ServiceOptions): Promise<void> {
  await using node = await CacheNode.open(settings, { log: options.log });
  const stopped = Promise.withResolvers<void>();
  const { socket, adminSocket } = settings.node;
  await using control = await ControlServer.open({
    node,
    version: options.version,
    socket,
    adminSocket,
    onStop: () => stopped.resolve(),
  });
  options.onReady(node, { socket, adminSocket });
  const ends: Promise<unknown>[] = [stopped.promise];
  if (options.lingerMs !== undefined) ends.push(control.idle(options.lingerMs));
  if (!options.signal.aborted) ends.push(once(options.signal, "abort"));
  if (!options.signal.aborted) await Promise.race(ends);
}
