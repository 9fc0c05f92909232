import { join } from "node:path";
import type { Command } from "commander";
import {
  formatBytes,
  formatDuration,
  type NamedThing,
  P2pCacheError,
  type Published,
  publish,
  type Settings,
  UsageError,
  type Variant,
  variantText,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { doEach } from "../each.ts";
import { addSharedFlags } from "../flags.ts";
import { parseJsonHandle, readHandles, readJsonFromStdin, resolved } from "../handles.ts";
import { atMounts, timeoutOf } from "../mounts.ts";
import { ProgressReport } from "../progress.ts";

/** As typed. */
interface PublishFlags {
  readonly root?: string;
  readonly requires?: string;
  readonly cachable: boolean;
  readonly externalLinks?: boolean;
  readonly stripSpecial?: boolean;
  readonly allowPrivate?: boolean;
  readonly supersede?: boolean;
  readonly inPlace?: boolean;
  readonly fromJson?: string;
}

/** One variant to release. */
interface Release {
  readonly variant: Variant;
  readonly treePath: string;
  readonly requires: readonly string[];
  readonly cachable: boolean;
}

export function addPublish(parent: Command, run: Run): void {
  const command = parent
    .command("publish")
    .description("Release variants' trees to the origin, signed with the publisher's key.")
    .argument("[handle...]", "the variants, as in fetch")
    .option("--root <directory>", "the tree; <repository>/<name>/<version> for a variant without index")
    .option("--requires <packages>", "what the variant requires, separated by commas")
    .option("--not-cachable", "machines must not place it in their caches")
    .option("--external-links", "keep links that leave the tree")
    .option("--strip-special", "leave out devices, sockets and FIFOs, and drop setuid and setgid bits")
    .option("--allow-private", "take files that others may not read: in caches everybody may")
    .option("--supersede", "write a new revision over a release that differs")
    .option("--in-place", "write no chunks: machines read the tree where it lies, which must be in its repository")
    .option("--from-json <file>", "- reads { handle, root?, requires?, cachable? }, or a list of them, from stdin")
    .addHelpText(
      "after",
      "\nExample:\n  p2pcache publish studio:foo-1.0.0[0] --root /mnt/sw/packages/foo/1.0.0/python-3.11\n" +
        "  p2pcache publish studio:bar-2.1 studio:baz-0.3",
    )
    .action((handles: string[], options: Omit<PublishFlags, "cachable"> & { notCachable?: boolean }, self: Command) =>
      run(self, (context) => publishAll(context, handles, { ...options, cachable: options.notCachable !== true })),
    );
  addSharedFlags(command);
}

async function publishAll(context: Context, handles: readonly string[], flags: PublishFlags): Promise<void> {
  const { settings } = context.settings();
  const { releases, shape } = await readReleases(context, settings, handles, flags);
  const report = new Report(context, shape);
  try {
    await doEach(context, releases, async (release) => {
      report.add(variantText(release.variant), await publishOne(context, settings, release, flags));
    });
  } finally {
    report.end();
  }
}

/** What is to be released; all that was typed is understood before anything is done. @throws {UsageError} */
async function readReleases(
  context: Context,
  settings: Settings,
  handles: readonly string[],
  flags: PublishFlags,
): Promise<{ readonly releases: readonly Release[]; readonly shape: "one" | "list" }> {
  if (flags.fromJson === undefined) {
    if (handles.length === 0) throw new UsageError("publish needs a handle, or --from-json -");
    const named = await readHandles(context, settings, handles);
    if (named.length > 1 && (flags.root !== undefined || flags.requires !== undefined)) {
      throw new UsageError("--root and --requires are about one variant, and several were named", {
        hint: "publish them one by one, or write both in --from-json",
      });
    }
    const releases = named.map(({ thing, typed }) => oneRelease(settings, variantOf(thing, typed), flags));
    return { releases, shape: releases.length === 1 ? "one" : "list" };
  }
  if (flags.fromJson !== "-") throw new UsageError("--from-json reads stdin only: write --from-json -");
  if (handles.length > 0 || flags.root !== undefined) {
    throw new UsageError("with --from-json, handle and root stand in the JSON");
  }
  const value = await readJsonFromStdin();
  const known = await resolved(settings);
  const releases = [value].flat().map((item) => parseRelease(known, item, flags));
  return { releases, shape: Array.isArray(value) ? "list" : "one" };
}

function oneRelease(settings: Settings, variant: Variant, { root, requires, cachable }: PublishFlags): Release {
  const names = requires?.split(",").map((name) => name.trim()) ?? [];
  return { variant, treePath: root ?? defaultRoot(settings, variant), requires: names.filter(Boolean), cachable };
}

/** One object of `--from-json`. @throws {UsageError} */
function parseRelease(settings: Settings, value: unknown, flags: PublishFlags): Release {
  if (typeof value !== "object" || value === null) throw new UsageError("a release is a JSON object with a handle");
  const { handle, root, requires = [], cachable = flags.cachable, ...rest } = value as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw new UsageError(`a release has no field ${JSON.stringify(unknown)}`);
  const variant = variantOf(parseJsonHandle(handle, settings), JSON.stringify(handle));
  if (!Array.isArray(requires) || !requires.every((name) => typeof name === "string")) {
    throw new UsageError(`requires of ${variantText(variant)} is a list of texts`);
  }
  if (root !== undefined && typeof root !== "string") throw new UsageError(`root of ${variantText(variant)} is a path`);
  if (typeof cachable !== "boolean") throw new UsageError(`cachable of ${variantText(variant)} is true or false`);
  return { variant, treePath: root ?? defaultRoot(settings, variant), requires, cachable };
}

function variantOf(thing: NamedThing, typed: string): Variant {
  if (thing.kind === "variant") return thing.variant;
  throw new UsageError(`${typed} names no package, and only packages are published`);
}

/** Where Rez has a package without variants; the roots of variants are Rez's business. @throws {UsageError} */
function defaultRoot({ repositories }: Settings, variant: Variant): string {
  const { repository, name, version, index } = variant;
  const path = repositories.get(repository);
  if (path === undefined || index !== undefined) {
    throw new UsageError(`where the tree of ${variantText(variant)} lies is not known: give --root`, {
      hint: "only a package without variants has a root by default: <repository>/<name>/<version>",
    });
  }
  return join(path, name, version ?? "");
}

/** What was published, for the report. */
type Done = Published & { readonly seconds: number };

async function publishOne(context: Context, settings: Settings, release: Release, flags: PublishFlags): Promise<Done> {
  const startedMs = performance.now();
  const text = variantText(release.variant);
  using report = new ProgressReport(context.out);
  const onProgress = (doneBytes: number, files: number) =>
    report.update({ what: text, doneBytes, totalBytes: undefined, detail: `${files} files` });
  try {
    const request = {
      ...release,
      externalLinks: flags.externalLinks === true,
      stripSpecial: flags.stripSpecial === true,
      allowPrivate: flags.allowPrivate === true,
      supersede: flags.supersede === true,
      inPlace: flags.inPlace === true,
      onProgress,
      onWarning: (message: string) => context.out.warn(message),
    };
    const limits = { what: text, timeoutMs: timeoutOf(context, settings) };
    const published = await atMounts(context, limits, (signal) => publish(settings, { ...request, signal }));
    if (flags.inPlace === true && published.inPlaceRoot === undefined) {
      context.out.note(`${text} was released with its chunks before: they stay, and are read in place of the tree`);
    }
    return { ...published, seconds: (performance.now() - startedMs) / 1000 };
  } catch (error) {
    if (error instanceof P2pCacheError && error.code === "ALREADY_RELEASED") noteChanges(context, text, error);
    throw error;
  }
}

/** The first files that differ from the release, before the error that says how many there are. */
function noteChanges({ out }: Context, text: string, { details }: P2pCacheError): void {
  const {
    added = 0,
    removed = 0,
    changed = 0,
    changes = [],
    changesUnknown,
  } = (details ?? {}) as {
    [count in "added" | "removed" | "changed"]?: number;
  } & { changes?: readonly { kind: string; path: string }[]; changesUnknown?: string };
  if (changesUnknown !== undefined) out.note(`${text}: what changed cannot be listed: ${changesUnknown}`);
  const listed = changes.slice(0, changesShownMax);
  for (const { kind, path } of listed) out.note(`${text}: ${kind} ${path}`);
  const rest = added + removed + changed - listed.length;
  if (rest > 0) out.note(`${text}: and ${rest} more`);
}

/** Tells of each release as it is done; JSON in one object at the end. */
class Report {
  readonly #context: Context;
  readonly #shape: "one" | "list";
  readonly #done: Done[] = [];

  constructor(context: Context, shape: "one" | "list") {
    this.#context = context;
    this.#shape = shape;
  }

  add(text: string, done: Done): void {
    const { out } = this.#context;
    if (this.#shape === "list" && out.json && !out.jsonLines) this.#done.push(done);
    else out.result("publish", done, () => [`payload:${done.payload}`]);
    const { revision, files, bytes, chunks, newChunks, newBytes, seconds, inPlaceRoot } = done;
    const added = `${newChunks} of ${chunks} chunks were new (${formatBytes(newBytes)} of ${formatBytes(bytes)})`;
    const saved = inPlaceRoot !== undefined && newChunks === 0 ? `read in place at ${inPlaceRoot}` : added;
    out.note(`${text}: revision ${revision}, ${files} files, ${saved}, in ${formatDuration(seconds * 1000)}`);
  }

  end(): void {
    const { out } = this.#context;
    if (this.#shape === "list" && out.json && !out.jsonLines) out.list("publish", "published", this.#done, () => []);
  }
}

/** What people read of a list before they look at the tree themselves. */
const changesShownMax = 20;
