import { dirname, join } from "node:path";
import { P2pCacheError } from "../protocol/errors.ts";
import { parseVariantHash } from "../protocol/hash.ts";
import { systemClock } from "./clock.ts";
import { type CheckLine, type CheckLines, failure, warning } from "./doctor/check-line.ts";
import { checkPeerClocks, checkWrittenTimes, clockLine, repositoryPaths } from "./doctor/clock.ts";
import { checkDirectory, checkUser } from "./doctor/directories.ts";
import { checkDisk, checkReflink } from "./doctor/disk.ts";
import { reportChecks } from "./doctor/job-child.ts";
import { checkMulticast } from "./doctor/multicast.ts";
import { checkOrigin } from "./doctor/origins.ts";
import { checkBootstrap, checkPorts } from "./doctor/ports.ts";
import { checkRepository } from "./doctor/repositories.ts";
import { checkRez } from "./doctor/rez.ts";
import type { RunningNode } from "./doctor/running-node.ts";
import { readServerTime } from "./doctor/server-time.ts";
import { checkTrust } from "./doctor/trust.ts";
import { checkWriters } from "./doctor/writers.ts";
import { NodeClient } from "./http/client.ts";
import { noLog } from "./log.ts";
import { readAuthorities } from "./origin-files.ts";
import type { Origin } from "./ports.ts";
import { RecordTrust } from "./record-trust.ts";
import { withoutUrlUsers } from "./redact.ts";
import type { LoadedSettings, SettingFlags } from "./settings/load.ts";
import type { OriginSettings, Settings } from "./settings/schema.ts";
import { ownerIsDead, readOwner } from "./store/owner.ts";

/** What a process of `doctor` is told to look at. */
export type DoctorWork =
  | { readonly kind: "configuration"; readonly flags: SettingFlags }
  | { readonly kind: "disk"; readonly settings: Settings; readonly running: RunningNode | undefined }
  | {
      readonly kind: "network";
      readonly settings: Settings;
      readonly running: RunningNode | undefined;
      readonly rezConfig: string | undefined;
    }
  | { readonly kind: "repository"; readonly id: string; readonly path: string }
  | { readonly kind: "origin"; readonly origin: OriginSettings; readonly network: string | undefined };

/** What the work on the configuration answers besides its lines; undefined where it does not load. */
export interface Configured {
  readonly settings: Settings;
  readonly running: RunningNode | undefined;
  /** Why a node that runs could not be asked. */
  readonly refusal: string | undefined;
}

type Checks = Iterable<readonly [check: string, run: () => CheckLines]>;

// What has been said is read before the channel goes.
process.once("disconnect", () => process.exit());
process.once("message", (work) => {
  const { checks, answer } = planOf(work as DoctorWork);
  void reportChecks(checks, answer);
});

function planOf(work: DoctorWork): { readonly checks: Checks; readonly answer?: () => unknown } {
  switch (work.kind) {
    case "configuration": {
      const configuration = new Configuration(work.flags);
      return { checks: [["configuration", () => configuration.check()]], answer: () => configuration.answer };
    }
    case "disk":
      return { checks: diskChecks(work.settings, work.running) };
    case "network":
      return { checks: [rezCheck(work), ...networkChecks(work.settings, work.running)] };
    case "repository":
      return { checks: [[`repository ${work.id}`, () => checkRepository(work.id, work.path)]] };
    case "origin":
      return { checks: originChecks(work.origin, work.network) };
  }
}

/** Reads the configuration, and asks the node that runs with it. */
class Configuration {
  readonly #flags: SettingFlags;
  answer: Configured | undefined;

  constructor(flags: SettingFlags) {
    this.#flags = flags;
  }

  async *check(): AsyncGenerator<CheckLine> {
    // Only this job needs the schema, which takes a while to load.
    const [{ loadSettings }, { checkSettings }] = await Promise.all([
      import("./settings/load.ts"),
      import("./settings/show.ts"),
    ]);
    let loaded: LoadedSettings;
    try {
      loaded = loadSettings({ flags: this.#flags, env: process.env });
    } catch (error) {
      if (!(error instanceof P2pCacheError)) throw error;
      yield failure("configuration", error.message, error.hint);
      return yield warning("configuration", "what depends on it was not looked at", "correct it, and run this again");
    }
    for (const { severity, key, message, hint } of await checkSettings(loaded, { directories: false })) {
      // Of whose releases are taken `trust` tells.
      if (key === "trust.publishers") continue;
      const line = severity === "error" ? failure : warning;
      yield line("configuration", key === undefined ? message : `${key}: ${message}`, hint);
    }
    this.answer = { settings: loaded.settings, ...(await askNode(loaded.settings)) };
  }
}

async function askNode({ node }: Settings): Promise<Omit<Configured, "settings">> {
  try {
    const client = new NodeClient(node);
    const status = await client.status({ signal: AbortSignal.timeout(statusMs) });
    const clocks = (await client.peers()) as unknown as RunningNode["clocks"];
    return { running: { ...(status as unknown as RunningNode), clocks }, refusal: undefined };
  } catch (error) {
    const isAbsent = error instanceof P2pCacheError && error.code === "NO_NODE";
    return { running: undefined, refusal: isAbsent ? undefined : (error as Error).message };
  }
}

function diskChecks(settings: Settings, running: RunningNode | undefined): Checks {
  const { cache, node } = settings;
  const socket = dirname(node.socket);
  const written = [node.state, join(node.state, "index"), join(cache.path, ".sys", "p2pcache")];
  return [
    ["user", () => checkUser(cache.path)],
    ["cache", () => checkDirectory({ check: "cache", path: cache.path })],
    ["state", () => checkDirectory({ check: "state", path: node.state })],
    ["socket", () => checkDirectory({ check: "socket", path: socket })],
    ["writers", () => checkWriters(cache.path, { read: readOwner, isDead: ownerIsDead }, { pid: running?.pid })],
    ["disk", () => checkDisk(cache.path, node.state, cache)],
    ["reflink", () => checkReflink(cache.path)],
    ["trust", () => trustChecks(settings)],
    ["clock", () => checkWrittenTimes("this node", written, Date.now())],
    ["clock", () => checkPeerClocks(running?.clocks ?? [], Date.now())],
  ];
}

/** Without a hash engine: nothing is judged here. */
async function* trustChecks(settings: Settings): AsyncGenerator<CheckLine> {
  const { mode, publishers, rootFile } = settings.trust;
  try {
    const trust = await RecordTrust.look(settings, () => new Uint8Array());
    const nodeKey = join(settings.node.state, "node.key");
    const { policy } = trust.status();
    const hasRoot = rootFile !== undefined;
    yield* checkTrust({ mode, publishers: publishers.length, hasRoot, policy, warning: trust.warning(), nodeKey });
  } catch (error) {
    if (!(error instanceof P2pCacheError)) throw error;
    yield failure("trust", error.message, error.hint ?? "see that its owner may read it");
  }
}

function rezCheck({
  settings,
  rezConfig,
}: Extract<DoctorWork, { kind: "network" }>): readonly [string, () => CheckLines] {
  return ["rez", () => checkRez(settings.cache.path, { file: rezConfig, env: process.env })];
}

function networkChecks({ node, transfer }: Settings, running: RunningNode | undefined): Checks {
  if (transfer.peers === "never") return [];
  return [
    ["ports", () => checkPorts(node.listen, running?.addresses)],
    ["multicast", () => checkMulticast({ mdns: node.mdns })],
    ["bootstrap", () => checkBootstrap(node.bootstrap, { otherWay: node.mdns })],
  ];
}

function originChecks(origin: OriginSettings, network: string | undefined): Checks {
  const { name, policy } = origin;
  if (network === undefined) return [];
  const place = origin.kind === "folder" ? origin.path : withoutUrlUsers(origin.url).replace("***@", "");
  const ask = async () => {
    const opened = await openBare(origin, network);
    await opened.latestRecord(unreleased);
  };
  const clock = () => (policy === "never" ? [] : originClock(origin));
  return [
    [`origin ${name}`, () => checkOrigin({ name, place, policy, ask })],
    ["clock", clock],
  ];
}

/** A folder is read by this very process, which may be left behind as well as the child that a node has for it. */
async function openBare(origin: OriginSettings, network: string): Promise<Origin> {
  if (origin.kind === "folder") {
    const { FolderRepository } = await import("./origins/folder-origin.ts");
    return await FolderRepository.open({ name: origin.name, path: origin.path, network });
  }
  const { openOrigin } = await import("./origins-of.ts");
  return await openOrigin(origin, new Map(), { network, clock: systemClock, log: noLog });
}

/** A server says its time; a folder has no clock that can be read without writing there. */
function originClock(origin: OriginSettings): CheckLines {
  const who = `origin ${origin.name}`;
  if (origin.kind === "folder") return checkWrittenTimes(who, repositoryPaths(origin.path), Date.now());
  return checkServerClock(who, origin.url, origin.caFile);
}

async function* checkServerClock(who: string, url: string, caFile: string | undefined): AsyncGenerator<CheckLine> {
  const theirMs = await readServerTime(url, caFile === undefined ? undefined : await readAuthorities(caFile));
  if (theirMs !== undefined) yield clockLine(who, theirMs, Date.now());
}

/** A node answers its status within milliseconds. */
const statusMs = 2_000;
/** The hash of nothing that there is. */
const unreleased = parseVariantHash("0".repeat(64));
