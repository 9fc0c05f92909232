import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import {
  formatBytes,
  formatDuration,
  type LogFormat,
  type LogLevel,
  type NodeStatus,
  nodeId,
  openLog,
  runNode,
  type ServiceOptions,
  type Settings,
  UnreachableError,
} from "../../node/index.ts";
import { type Context, type Run, readVersion } from "../context.ts";
import { addSharedFlags, type SharedFlags } from "../flags.ts";
import { findNode } from "../session.ts";
import { parseSeconds } from "./fetch.ts";

export function addNode(parent: Command, run: Run): void {
  const group = parent
    .command("node")
    .description("Run, ask and stop the node of a cache.")
    .addHelpText("after", "\nExample:\n  p2pcache node status");
  const running = group
    .command("run")
    .description("Run a node until SIGTERM or SIGINT; its log goes to stderr: -v for more of it, -q for less.")
    .option("--linger <seconds>", "end when nobody has called for so long")
    .addHelpText("after", "\nExample:\n  p2pcache node run --config /etc/p2pcache/config.toml")
    .addOption(
      new Option("--log-format <format>", "one JSON object a line, or lines for people").choices(["json", "pretty"]),
    )
    .action((options: RunOptions, self: Command) => run(self, (context) => runHere(context, options)));
  const status = group
    .command("status")
    .description("Print what the running node says of itself.")
    .addHelpText("after", "\nExample:\n  p2pcache node status --json")
    .action((_options: object, self: Command) => run(self, printStatus));
  const stopping = group
    .command("stop")
    .description("Stop the running node, and wait until it has gone.")
    .addHelpText("after", "\nExample:\n  p2pcache node stop --cache /var/cache/p2pcache")
    .action((_options: object, self: Command) => run(self, stop));
  const id = group
    .command("id")
    .description("Print the peer id of this machine's node; its key is made where there is none.")
    .addHelpText("after", "\nExample:\n  p2pcache node id")
    .action((_options: object, self: Command) => run(self, printId));
  for (const command of [group, running, status, stopping, id]) addSharedFlags(command);
}

interface RunOptions {
  readonly linger?: string;
  readonly logFormat?: LogFormat;
}

async function runHere(context: Context, options: RunOptions): Promise<void> {
  const { linger } = options;
  const loaded = context.settings();
  const { settings } = loaded;
  const { flags, out, signal } = context;
  const onRequest = listenForHangUps();
  const opened = await openLog({
    format: options.logFormat ?? "json",
    level: levelOf(flags, settings),
    colors: flags.color ?? (process.stderr.isTTY === true && !process.env.NO_COLOR),
    write: (line) => void process.stderr.write(line),
  });
  const onReady: ServiceOptions["onReady"] = (node, { socket }) => {
    const { addresses } = node.status(readVersion());
    out.result("node-run", { node: node.id, socket, addresses }, () => [
      ["ready", node.id, socket, ...addresses].join(" "),
    ]);
  };
  // A part that does not end must not keep the machine from going down.
  signal.addEventListener("abort", () => setTimeout(() => process.exit(1), stopMs).unref());
  await runNode(settings, {
    version: readVersion(),
    log: opened.log,
    ...(linger === undefined ? {} : { lingerMs: parseSeconds(linger) * 1000 }),
    onReady,
    signal,
    reloading: {
      current: loaded,
      load: context.settings,
      onRequest,
      onReloaded: (next) => {
        opened.level = levelOf(flags, next);
      },
    },
  });
}

/** SIGHUP asks for a reload; one that comes before the node is ready is not lost. */
function listenForHangUps(): (reload: () => void) => void {
  let early = false;
  let request = () => {
    early = true;
  };
  process.on("SIGHUP", () => request());
  return (reload) => {
    request = reload;
    if (early) reload();
  };
}

function levelOf({ quiet, verbose }: SharedFlags, { node }: Settings): LogLevel {
  return quiet === true ? "warn" : verbose === true ? "debug" : node.logLevel;
}

async function printStatus(context: Context): Promise<void> {
  const node = await findNode(context);
  const status = (await node.status({ signal: context.signal })) as unknown as NodeStatus;
  context.out.result("node-status", status, () => [
    `${status.name} (${status.node}), version ${status.version}, up ${formatDuration(status.uptimeSeconds * 1000)}`,
    `network ${status.network}, ${status.peers} peers${status.addresses.map((address) => `\n  ${address}`).join("")}`,
    `cache ${status.cache.path}: ${status.cache.variants} variants, ${formatBytes(status.cache.bytes)} of ${formatBytes(status.cache.maxBytes)}`,
    ...status.origins.map(({ name, state, reason }) => `origin ${name}: ${state}${reason ? `, ${reason}` : ""}`),
    trustLine(status.trust),
    ...status.transfers.map(({ text }) => `fetching ${text}`),
    ...status.warnings.map((warning) => `warning: ${warning}`),
  ]);
}

function trustLine({ mode, publishers, policy }: NodeStatus["trust"]): string {
  if (policy === undefined) return `trust: ${mode === "hash-only" ? "anybody" : `${publishers} publishers`}`;
  const { version, state, expires, denied } = policy;
  return `trust: policy ${version}, ${state} until ${expires}: ${publishers} publishers, ${denied.length} payloads denied`;
}

async function stop(context: Context): Promise<void> {
  const node = await findNode(context);
  const { pid } = (await node.status({ signal: context.signal })) as { pid: number };
  await node.stop();
  const untilMs = performance.now() + stopMs;
  while (isAlive(pid)) {
    if (performance.now() > untilMs) throw new UnreachableError(`the node (process ${pid}) does not end`);
    await sleep(pollMs, undefined, { signal: context.signal }).catch(() => context.signal.throwIfAborted());
  }
  context.out.result("node-stop", { stopped: true }, () => []);
}

/** A process in another container's namespace counts as gone: its socket no longer answers. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return !isZombie(pid);
}

/** One that has ended, and that nobody has asked about yet (proc(5), /proc/pid/stat). */
function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return false;
  }
}

async function printId({ settings, out }: Context): Promise<void> {
  const id = await nodeId(settings().settings);
  out.result("node-id", { node: id }, () => [id]);
}

/** A node ends within 10 s (DESIGN section 10). */
const stopMs = 10_000;
const pollMs = 25;
