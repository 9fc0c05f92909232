import { Command, CommanderError } from "commander";
import { loadSettings, P2pCacheError, UsageError } from "../node/index.ts";
import { listenApart } from "./apart.ts";
import { addConfig } from "./commands/config.ts";
import { addDemo } from "./commands/demo.ts";
import { addDoctor } from "./commands/doctor.ts";
import { addFetch } from "./commands/fetch.ts";
import { addFsck } from "./commands/fsck.ts";
import { addExplain, addGc } from "./commands/gc.ts";
import { addInit } from "./commands/init.ts";
import { addKeepalive } from "./commands/keepalive.ts";
import { addKey } from "./commands/key.ts";
import { addLs } from "./commands/ls.ts";
import { addNode } from "./commands/node.ts";
import { addOrigin } from "./commands/origin.ts";
import { addPeers } from "./commands/peers.ts";
import { addPin, addUnpin } from "./commands/pin.ts";
import { addPublish } from "./commands/publish.ts";
import { addRm } from "./commands/rm.ts";
import { addRun } from "./commands/run.ts";
import { addTrust } from "./commands/trust.ts";
import { addUnpublish } from "./commands/unpublish.ts";
import { addVerify } from "./commands/verify.ts";
import { type Context, type Run, readVersion } from "./context.ts";
import { addSharedFlags, flagsOf, type SharedFlags, withPlainJson } from "./flags.ts";
import { endNow } from "./mounts.ts";
import { Output } from "./print.ts";

/** Runs one command line; never rejects. Sets the process's exit code. */
export async function main(argv: string[]): Promise<void> {
  const words = withPlainJson(argv);
  const signal = listenForSignals();
  // For errors before any command runs.
  let out = new Output(words.includes("--json=object") || words.includes("--json=lines") ? { json: "object" } : {});
  const run: Run = async (command, work) => {
    const flags = flagsOf(command);
    out = new Output(flags);
    await work(contextOf(flags, out, signal));
  };
  try {
    await program(run).parseAsync(words, { from: "user" });
  } catch (error) {
    const shown = error instanceof CommanderError ? usageOf(error) : error;
    // What is interrupted says so in many ways.
    const interrupted = signal.aborted && !(shown instanceof P2pCacheError);
    if (shown !== undefined) out.fail(interrupted ? signal.reason : shown);
  }
  process.exitCode = out.exitCode;
  // Something that still waits for a mount that hangs must not keep us: what had to be said has been said.
  setTimeout(() => endNow(out.exitCode), lastMs).unref();
}

function program(run: Run): Command {
  const command = new Command("p2pcache")
    .description("A peer-to-peer cache for Rez packages.")
    .version(readVersion(), "--version", "print the version")
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .addHelpText("after", "\nExample:\n  p2pcache fetch studio:maya-2026.1 # prints where it lies on this machine");
  addSharedFlags(command);
  const adders = [
    addInit,
    addFetch,
    addPublish,
    addUnpublish,
    addLs,
    addRm,
    addGc,
    addExplain,
    addPin,
    addUnpin,
    addRun,
    addPeers,
    addVerify,
    addFsck,
    addOrigin,
    addNode,
    addKey,
    addTrust,
    addKeepalive,
    addConfig,
    addDoctor,
    addDemo,
  ];
  for (const add of adders) add(command, run);
  return command;
}

function contextOf(flags: SharedFlags, out: Output, signal: AbortSignal): Context {
  const settings = () => {
    const loaded = loadSettings({ flags, env: process.env });
    for (const warning of loaded.warnings) out.warn(warning);
    return loaded;
  };
  return { flags, out, signal, settings };
}

/** The first SIGINT or SIGTERM ends the work, a second one the process. */
function listenForSignals(): AbortSignal {
  const interrupt = new AbortController();
  const abort = () => interrupt.abort(new P2pCacheError("INTERRUPTED", 130, "interrupted"));
  // A process apart is ended by who waits for it.
  if (!listenApart(abort)) {
    for (const name of ["SIGINT", "SIGTERM"] as const) {
      process.on(name, () => {
        if (interrupt.signal.aborted) endNow(130);
        abort();
      });
    }
  }
  // Whoever read us has gone: there is nobody left to tell.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
  // A log that cannot be written, for lack of a reader or of space, is no reason to end.
  process.stderr.on("error", () => undefined);
  return interrupt.signal;
}

/** What commander refused, as an error of ours; undefined where it only printed what was asked for. */
function usageOf(error: CommanderError): UsageError | undefined {
  if (error.exitCode === 0) return undefined;
  if (error.code === "commander.help") return new UsageError("a command is missing", { hint: "p2pcache --help" });
  const [message = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const hint = suggestion?.replace(/^\((.*)\)$/, "$1");
  return new UsageError(message, { hint: hint ?? "p2pcache --help, or --help after the command" });
}

const lastMs = 100;
