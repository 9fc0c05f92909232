import type { Command } from "commander";
import {
  type ApiVariant,
  DeadlineError,
  type FetchCall,
  formatBytes,
  formatDuration,
  type NodeClient,
  P2pCacheError,
  type Settings,
  UnreachableError,
  UsageError,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { type Named, readHandles } from "../handles.ts";
import { bytesText, FetchProgressSum, ProgressReport } from "../progress.ts";
import { findOrStartNode } from "../session.ts";

export function addFetch(parent: Command, run: Run): void {
  const command = parent
    .command("fetch")
    .description("Make sure that variants lie on this machine, and print where.")
    .argument(
      "<handle...>",
      "studio:foo-1.0.0[0], a Rez URI, JSON, - for stdin, an .rxt file, variant:<hex>, payload:<hex>",
    )
    .option("--linger <seconds>", "how long a node that this command starts stays without work", "30")
    .option("--class <class>", `why it is fetched: ${[...classes.keys()].join(", ")}`, "interactive")
    .addHelpText("after", "\nExample:\n  p2pcache fetch studio:maya-2026.1 shot.rxt")
    .action((handles: string[], options: Options, self: Command) =>
      run(self, (context) => fetch(context, handles, parseSeconds(options.linger), parseClass(options.class))),
    );
  addSharedFlags(command);
}

interface Options {
  readonly linger: string;
  readonly class: string;
}

/** By the words of the command line, as `transfer.up` and `transfer.down` have them but for the dash. */
const classes: ReadonlyMap<string, NonNullable<FetchCall["traffic"]>> = new Map([
  ["interactive", "interactive"],
  ["job-start", "jobStart"],
  ["prefetch", "prefetch"],
  ["repair", "repair"],
]);

/** @throws {UsageError} */
function parseClass(text: string): NonNullable<FetchCall["traffic"]> {
  const traffic = classes.get(text);
  if (traffic !== undefined) return traffic;
  throw new UsageError(`--class: ${JSON.stringify(text)} is not one of ${[...classes.keys()].join(", ")}`);
}

/** Whole seconds of a flag. @throws {UsageError} */
export function parseSeconds(text: string): number {
  const seconds = /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : undefined;
  if (seconds === undefined) throw new UsageError(`--linger: ${JSON.stringify(text)} is not a number of seconds`);
  return seconds;
}

async function fetch(
  context: Context,
  words: readonly string[],
  lingerSeconds: number,
  traffic: NonNullable<FetchCall["traffic"]>,
): Promise<void> {
  const { settings } = context.settings();
  const named = await readHandles(context, settings, words);
  if (named.length === 0) return context.out.list("fetch", "variants", [], () => []);
  const start = () => findOrStartNode(context, settings, { lingerSeconds });
  const variants = await fetchNamed(context, settings, named, { start, traffic });
  report(
    context,
    variants,
    named.map(({ typed }) => typed),
  );
}

/** Which node fetches, and why. */
interface FetchWay {
  readonly start: () => Promise<NodeClient>;
  readonly traffic: NonNullable<FetchCall["traffic"]>;
}

/** Has a node fetch what was named, with the flags of this command line. */
export async function fetchNamed(
  context: Context,
  settings: Settings,
  named: readonly Named[],
  { start, traffic }: FetchWay,
): Promise<ApiVariant[]> {
  const call: FetchCall = {
    things: named.map(({ thing }) => thing),
    traffic,
    // Checked with the settings.
    ...(context.flags.origin === undefined ? {} : { origin: context.flags.origin as NonNullable<FetchCall["origin"]> }),
    ...(context.flags.peers === undefined ? {} : { peers: settings.transfer.peers }),
    ...(context.flags.timeout === undefined ? {} : { timeoutMs: settings.transfer.timeoutMs }),
  };
  return await callNode(context, start, call, settings.transfer.timeoutMs);
}

/** A node may end, for lack of work, between our finding it and our call: then there is another one. */
async function callNode(
  context: Context,
  start: () => Promise<NodeClient>,
  call: FetchCall,
  timeoutMs: number,
): Promise<ApiVariant[]> {
  using report = new ProgressReport(context.out);
  const sum = new FetchProgressSum();
  const attempt = async () => {
    using deadline = new Deadline(timeoutMs + graceMs);
    const signal = AbortSignal.any([context.signal, deadline.signal]);
    return await (await start()).fetch(call, (progress) => report.update(sum.add(progress)), { signal });
  };
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof UnreachableError && error.code === "NO_NODE")) throw error;
    return await attempt();
  }
}

/** The node keeps the deadline of a fetch; this one is for a node that does not answer any more. */
class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number) {
    const late = new DeadlineError("the node did not answer in time");
    this.#timer = setTimeout(() => this.#controller.abort(late), Math.min(ms, timerMsMax));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

function report({ out }: Context, variants: readonly ApiVariant[], typed: readonly string[]): void {
  const had = variants.filter(({ outcome }) => outcome === "local" || outcome === "fetched");
  out.list("fetch", "variants", variants.map(shown), () => had.map(({ path }) => path ?? ""));
  for (const [at, variant] of variants.entries()) {
    if (variant.outcome === "failed") out.fail(failure(variant, typed[at] ?? ""));
    if (variant.outcome !== "fetched") continue;
    const { handle, bytes, seconds } = variant;
    const total = formatBytes(bytes.local + bytes.peers + bytes.origin);
    out.note(`${handle}: ${total} (${bytesText(bytes)}) in ${formatDuration(seconds * 1000)}`);
  }
  // After the failures: a variant that failed weighs more than one that was left out.
  for (const variant of variants) if (variant.outcome === "skipped") out.fail(skipped(variant));
}

/** As CONTRACTS has it. */
function shown({ handle, variant, payload = null, path = null, outcome, reason, bytes, seconds }: Shown): object {
  return { handle, variant, payload, path, outcome, ...(reason === undefined ? {} : { reason }), bytes, seconds };
}

type Shown = Omit<ApiVariant, "payload" | "path"> & {
  readonly payload: string | null | undefined;
  readonly path: string | null | undefined;
};

function failure({ handle, error, reason }: ApiVariant, typed: string): P2pCacheError {
  const { code = "INTERNAL", exit = 1, message = reason ?? "it failed", hint, details } = error ?? {};
  const named = message.includes(handle) || message.includes(typed) ? message : `${handle}: ${message}`;
  return new P2pCacheError(code, exit as P2pCacheError["exit"], named, {
    ...(hint === undefined ? {} : { hint }),
    details: { ...details, handle },
  });
}

function skipped({ handle, reason, path }: ApiVariant): P2pCacheError {
  const place = path === undefined ? "" : ` (it lies in ${path})`;
  return new P2pCacheError("SKIPPED", 9, `${handle} was left out: ${reason ?? "no reason given"}${place}`, {
    details: { handle },
  });
}

/** Time for the node's own answer to arrive. */
const graceMs = 10_000;
/** Node's timers overflow beyond 24 days. */
const timerMsMax: number = 24 * 24 * 3_600_000;
