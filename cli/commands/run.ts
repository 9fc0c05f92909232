import { spawn } from "node:child_process";
import { constants } from "node:os";
import type { Command } from "commander";
import {
  type ApiVariant,
  type HeldLease,
  type NodeClient,
  P2pCacheError,
  processMark,
  UsageError,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { readHandles } from "../handles.ts";
import { packageVariables } from "../package-variables.ts";
import { findOrStartNode } from "../session.ts";
import { fetchNamed, parseSeconds } from "./fetch.ts";

export function addRun(parent: Command, run: Run): void {
  const command = parent
    .command("run")
    .description("Fetch variants, and run a command with REZ_<NAME>_ROOT and its like set; they stay while it runs.")
    .argument("<handle...>", "what to fetch, as for fetch; then --, and the command with its arguments")
    .option("--linger <seconds>", "how long a node that this command starts stays without work", "30")
    .addHelpText("after", "\nExample:\n  p2pcache run studio:maya-2026.1 -- sh -c '\"$REZ_MAYA_ROOT\"/bin/maya'")
    .action((words: string[], options: { linger: string }, self: Command) =>
      run(self, async (context) => {
        const program = commandIn(process.argv);
        const handles = words.slice(0, words.length - program.length);
        await runWith(context, handles, program, parseSeconds(options.linger));
      }),
    );
  addSharedFlags(command);
}

/** What stands behind the first `--`. @throws {UsageError} where nothing does. */
function commandIn(argv: readonly string[]): string[] {
  const at = argv.indexOf("--");
  const program = at < 0 ? [] : argv.slice(at + 1);
  if (program.length > 0) return program;
  throw new UsageError("no command to run", { hint: "write -- and the command behind the handles" });
}

async function runWith(context: Context, words: readonly string[], program: string[], linger: number): Promise<void> {
  const { settings } = context.settings();
  const named = await readHandles(context, settings, words);
  if (named.length === 0) throw new UsageError("no handle is named");
  const things = named.map(({ thing }) => thing);
  const name = program[0]!;
  const client = await findOrStartNode(context, settings, { lingerSeconds: linger });
  // From before the fetch on, or what is here already might go meanwhile.
  const lease = await client.keeping.lease({ things, name }, { signal: context.signal });
  try {
    const variants = await fetchNamed(context, settings, named, { start: async () => client, traffic: "jobStart" });
    const missing = variants.find(({ path }) => path === undefined);
    if (missing !== undefined) throw failureOf(missing);
    const env = { ...process.env, ...packageVariables(variants, settings.repositories) };
    context.out.exitWith(await runProgram(program, env, client, { things, name }));
  } finally {
    lease.release();
  }
}

/** Runs the program with our own terminal. Answers what to exit with: as a shell says it. */
async function runProgram(
  [file = "", ...args]: string[],
  env: NodeJS.ProcessEnv,
  client: NodeClient,
  call: { readonly things: Parameters<NodeClient["keeping"]["lease"]>[0]["things"]; readonly name: string },
): Promise<number> {
  const child = spawn(file, args, { stdio: "inherit", env });
  const started = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<[number | null, NodeJS.Signals | null]>();
  child.once("spawn", started.resolve);
  child.once("error", (cause: NodeJS.ErrnoException) => started.reject(notRun(file, cause)));
  child.once("exit", (code, signal) => ended.resolve([code, signal]));
  await started.promise;
  // By its own name: should we be killed, what it runs from stays all the same.
  const own = await leaseOf(client, { ...call, process: processMark(child.pid!) });
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of passedOn) process.on(signal, pass);
  try {
    const [code, signal] = await ended.promise;
    return code ?? 128 + constants.signals[signal!];
  } finally {
    for (const signal of passedOn) process.off(signal, pass);
    own?.release();
  }
}

/** The program may have ended by now, or the node: what runs goes on. */
async function leaseOf(
  client: NodeClient,
  call: Parameters<NodeClient["keeping"]["lease"]>[0],
): Promise<HeldLease | undefined> {
  return await client.keeping.lease(call).catch(() => undefined);
}

function notRun(file: string, cause: NodeJS.ErrnoException): P2pCacheError {
  return new P2pCacheError("NOT_RUN", cause.code === "ENOENT" ? 3 : 1, `${file} cannot be run: ${cause.message}`);
}

function failureOf({ handle, error, reason }: ApiVariant): P2pCacheError {
  const { code = "NOT_PLACED", exit = 9, message = reason ?? "it is not here" } = error ?? {};
  return new P2pCacheError(code, exit as P2pCacheError["exit"], `${handle}: ${message}`);
}

/** What a job system sends; a terminal's Ctrl-C reaches the program by itself. */
const passedOn = ["SIGTERM", "SIGHUP"] as const;
