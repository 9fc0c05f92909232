import { join } from "node:path";
import type { Command } from "commander";
import {
  formatBytes,
  formatDuration,
  type NamedThing,
  type Published,
  publish,
  type Settings,
  UsageError,
  type Variant,
  variantText,
} from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { parseJsonHandle, parseTyped, readJsonFromStdin, resolved } from "../handles.ts";
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
    .description("Release a variant's tree to the origin, signed with the publisher's key.")
    .argument("[handle]", "the variant, as in fetch")
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
      "\nExample:\n  p2pcache publish studio:foo-1.0.0[0] --root /mnt/sw/packages/foo/1.0.0/python-3.11",
    )
    .action(
      (
        handle: string | undefined,
        options: Omit<PublishFlags, "cachable"> & { notCachable?: boolean },
        self: Command,
      ) => run(self, (context) => publishAll(context, handle, { ...options, cachable: options.notCachable !== true })),
    );
  addSharedFlags(command);
}

async function publishAll(context: Context, handle: string | undefined, flags: PublishFlags): Promise<void> {
  const { settings } = context.settings();
  if (flags.fromJson === undefined) {
    if (handle === undefined) throw new UsageError("publish needs a handle, or --from-json -");
    const release = oneRelease(settings, await parseTyped(handle, settings), handle, flags);
    return print(context, [await publishOne(context, settings, release, flags)], "one");
  }
  if (flags.fromJson !== "-") throw new UsageError("--from-json reads stdin only: write --from-json -");
  if (handle !== undefined || flags.root !== undefined) {
    throw new UsageError("with --from-json, handle and root stand in the JSON");
  }
  const value = await readJsonFromStdin();
  const known = await resolved(settings);
  const releases = [value].flat().map((item) => parseRelease(known, item, flags));
  const done: Done[] = [];
  for (const release of releases) done.push(await publishOne(context, settings, release, flags));
  print(context, done, Array.isArray(value) ? "list" : "one");
}

function oneRelease(settings: Settings, thing: NamedThing, handle: string, flags: PublishFlags): Release {
  const { root, requires, cachable } = flags;
  const variant = variantOf(thing, handle);
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
interface Done {
  readonly text: string;
  readonly published: Published & { readonly seconds: number };
}

async function publishOne(context: Context, settings: Settings, release: Release, flags: PublishFlags): Promise<Done> {
  const startedMs = performance.now();
  const text = variantText(release.variant);
  using report = new ProgressReport(context.out);
  const onProgress = (doneBytes: number, files: number) =>
    report.update({ what: text, doneBytes, totalBytes: undefined, detail: `${files} files` });
  const published = await publish(settings, {
    ...release,
    externalLinks: flags.externalLinks === true,
    stripSpecial: flags.stripSpecial === true,
    allowPrivate: flags.allowPrivate === true,
    supersede: flags.supersede === true,
    inPlace: flags.inPlace === true,
    onProgress,
    signal: context.signal,
  });
  if (flags.inPlace === true && published.inPlaceRoot === undefined) {
    context.out.note(`${text} was released with its chunks before: they stay, and are read in place of the tree`);
  }
  return { text, published: { ...published, seconds: (performance.now() - startedMs) / 1000 } };
}

function print({ out }: Context, done: readonly Done[], shape: "one" | "list"): void {
  const objects = done.map(({ published }) => published);
  const plain = () => objects.map(({ payload }) => `payload:${payload}`);
  if (shape === "one" && objects[0] !== undefined) out.result("publish", objects[0], plain);
  else out.list("publish", "published", objects, plain);
  for (const { text, published } of done) {
    const { revision, files, bytes, chunks, newChunks, newBytes, seconds, inPlaceRoot } = published;
    const added = `${newChunks} of ${chunks} chunks were new (${formatBytes(newBytes)} of ${formatBytes(bytes)})`;
    const saved = inPlaceRoot !== undefined && newChunks === 0 ? `read in place at ${inPlaceRoot}` : added;
    out.note(`${text}: revision ${revision}, ${files} files, ${saved}, in ${formatDuration(seconds * 1000)}`);
  }
}
