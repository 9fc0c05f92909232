import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type ApiCollected,
  type ApiCoverage,
  type ApiFsck,
  type ApiKept,
  type ApiList,
  type ApiRemoval,
  BusyError,
  type FsckWish,
  type HoldingShape,
  type NamedThing,
  NodeClient,
  openNode,
  P2pCacheError,
  removeAll,
  type Settings,
  UnreachableError,
  type VerifyResult,
} from "../node/index.ts";
import type { Context } from "./context.ts";
import { settingWords } from "./flags.ts";
import { spawnNode } from "./node-process.ts";

/** The node that owns the configured cache. @throws {UnreachableError} NO_NODE when none runs. */
export async function findNode(context: Context): Promise<NodeClient> {
  const client = new NodeClient(context.settings().settings.node);
  await client.status({ signal: context.signal });
  return client;
}

/** @throws {BusyError} NODE_RUNS where a node has the state that is to be changed. */
export async function refuseRunningNode(context: Context): Promise<void> {
  if (!(await answers(new NodeClient(context.settings().settings.node), context.signal))) return;
  throw new BusyError("a node is running here, and keeps the policy that it has", {
    code: "NODE_RUNS",
    hint: "p2pcache node stop, or `systemctl stop p2pcache`",
  });
}

/**
 * The node that owns the configured cache; where none runs, one is started that ends when nobody has called for a while.
 * @throws the error with which it failed to start.
 */
export async function findOrStartNode(
  context: Context,
  settings: Settings,
  options: { readonly lingerSeconds: number },
): Promise<NodeClient> {
  const client = new NodeClient(settings.node);
  const words = [`--linger=${options.lingerSeconds}`, ...settingWords(context.flags)];
  const logPath = join(settings.node.state, "node.log");
  return await patiently(context.signal, async () => {
    if (await answers(client, context.signal)) return client;
    await spawnNode({ words, logPath, signal: context.signal });
    return client;
  });
}

/** What can be asked of a cache also while no node runs. */
export interface LocalCache {
  holdings(): Promise<readonly HoldingShape[]>;
  verify(things: readonly NamedThing[]): Promise<VerifyResult>;
  remove(things: readonly NamedThing[]): Promise<readonly ApiRemoval[]>;
  fsck(wish: FsckWish): Promise<ApiFsck>;
  readonly keeping: LocalKeeping;
}

/** What it keeps, and why. */
export interface LocalKeeping {
  explain(thing: NamedThing): Promise<ApiKept>;
  gc(options: { readonly dryRun: boolean }): Promise<ApiCollected>;
  pin(thing: NamedThing): Promise<{ readonly handle: string; readonly variant: string }>;
  unpin(thing: NamedThing): Promise<{ readonly handle: string; readonly variant: string }>;
  lists(options: { readonly refresh: boolean }): Promise<readonly ApiList[]>;
  coverage(toolset: string): Promise<ApiCoverage>;
}

/**
 * Asks the running node; without one, this process opens the cache for as long as the question takes; its sources too,
 * where what is asked for `needsSources`.
 */
export async function withCache<Answer>(
  context: Context,
  settings: Settings,
  ask: (cache: LocalCache) => Promise<Answer>,
  { needsSources = false }: { readonly needsSources?: boolean } = {},
): Promise<Answer> {
  const client = new NodeClient(settings.node);
  const { signal } = context;
  return await patiently(signal, async () => {
    if (await answers(client, signal)) {
      const { promise, stop } = aborted(signal);
      const verify = (things: readonly NamedThing[]) => client.verify(things, { signal });
      const remove = (things: readonly NamedThing[]) => client.remove(things, { signal });
      const { keeping } = client;
      const fsck = (wish: FsckWish) => client.fsck(wish, { signal });
      const cache = { holdings: () => client.holdings(), verify, remove, fsck, keeping };
      return await Promise.race([ask(cache), promise]).finally(stop);
    }
    await using node = await openNode(needsSources ? settings : withoutNetwork(settings));
    const { promise, stop } = aborted(signal);
    const cache = {
      holdings: async () => node.holdings(),
      verify: (things: readonly NamedThing[]) => node.verify(things),
      remove: (things: readonly NamedThing[]) => removeAll(node, things, signal),
      fsck: (wish: FsckWish) => node.fsck({ ...wish, signal }),
      keeping: node.keeping,
    };
    return await Promise.race([ask(cache), promise]).finally(stop);
  });
}

/** Whether a node answers. @throws {P2pCacheError} when one does that cannot be talked to. */
async function answers(client: NodeClient, signal: AbortSignal): Promise<boolean> {
  try {
    await client.status({ signal });
    return true;
  } catch (error) {
    if (error instanceof UnreachableError && error.code === "NO_NODE") return false;
    throw error;
  }
}

/** Somebody else may be opening the cache at this moment: then its node answers soon, or the cache is free again. */
async function patiently<Answer>(signal: AbortSignal, work: () => Promise<Answer>): Promise<Answer> {
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const busy = error instanceof P2pCacheError && busyCodes.has(error.code);
      if (!busy || performance.now() > untilMs) throw error;
    }
    await sleep(retryMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

function withoutNetwork(settings: Settings): Settings {
  return { ...settings, origins: [], transfer: { ...settings.transfer, peers: "never" } };
}

/** Rejects when the signal is aborted. */
function aborted(signal: AbortSignal): { readonly promise: Promise<never>; readonly stop: () => void } {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  return { promise, stop: () => signal.removeEventListener("abort", onAbort) };
}

const busyCodes: ReadonlySet<string> = new Set(["CACHE_IN_USE", "STATE_IN_USE", "SOCKET_IN_USE"]);
/** A node starts within 2 s (DESIGN section 2), and on a machine that is busy starting many things it takes longer. */
const patienceMs = 15_000;
const retryMs = 250;
