import * as assert from "uvu/assert";
import { openHashEngine } from "../../node/hasher.ts";
import { FormatError, type P2pCacheError } from "../../protocol/errors.ts";
import { type Hasher, hashFromBytes } from "../../protocol/hash.ts";
import { chunkLayouts } from "../../protocol/layout.ts";
import { KIB, MIB } from "../../protocol/limits.ts";
import type { ManifestRoot } from "../../protocol/manifest.ts";
import { type BytelessEntry, ManifestBuilder } from "../../protocol/manifest-builder.ts";
import { ManifestChecker } from "../../protocol/manifest-checker.ts";
import { compareUtf8, utf8Bytes } from "../../protocol/paths.ts";
import type { ChunkRef, FileFacts, SegmentPart, SmallFileEntry } from "../../protocol/segments.ts";

export const hash: Hasher = openHashEngine().hash;
const half = 512 * KIB;

/** What a test says of an entry; digests follow from path and size. */
export type Planned = BytelessEntry | { readonly kind: "large"; readonly path: string; readonly sizeBytes: number };

export interface Built {
  readonly root: ManifestRoot;
  readonly rootBytes: Uint8Array;
  readonly segments: readonly Uint8Array[];
}

/** Builds a manifest: runs of at most 100 files and 2 MiB, large files cut at 512 KiB. */
export function build(entries: readonly Planned[]): Built {
  const segments: Uint8Array[] = [];
  const builder = new ManifestBuilder(hash, ({ bytes }) => segments.push(bytes));
  let run: SmallFileEntry[] = [];
  const endRun = (): void => {
    const sizeBytes = run.reduce((total, entry) => total + entry.sizeBytes, 0);
    if (sizeBytes > 0) builder.run({ digest: hash(utf8Bytes(run.map(({ path }) => path).join())), sizeBytes }, run);
    else for (const entry of run) builder.byteless(entry);
    run = [];
  };
  for (const entry of entries) {
    const sizeBytes = run.reduce((total, { sizeBytes: size }) => total + size, 0);
    if (entry.kind === "small" && run.length < 100 && sizeBytes + entry.sizeBytes <= 2 * MIB) {
      run.push(entry);
      continue;
    }
    endRun();
    if (entry.kind === "small") run.push(entry);
    else if (entry.kind === "large") builder.large(facts(entry.path, entry.sizeBytes), pieces(entry.sizeBytes));
    else builder.byteless(entry);
  }
  endRun();
  return { ...builder.finish(), segments };
}

function pieces(sizeBytes: number): ChunkRef[] {
  const sizes = Array.from({ length: Math.floor(sizeBytes / half) }, () => half);
  if (sizeBytes % half > 0) sizes.push(sizeBytes % half);
  return sizes.map((size, i) => ({ ...chunk(size), digest: hash(utf8Bytes(`${i}`)) }));
}

/** Gives decoded segments to a checker, as a receiver does. @throws {FormatError} */
export function check(root: ManifestRoot, segments: readonly (readonly SegmentPart[])[], externalLinks = false): void {
  const checker = new ManifestChecker(root, { externalLinks });
  for (const [i, parts] of segments.entries()) checker.add(parts, root.segments[i]!);
  checker.finish();
}

/** A root that says of some segments what can be counted in them. */
export function honestRoot(segments: readonly (readonly SegmentPart[])[]): ManifestRoot {
  const refs = segments.map((parts) => ({
    hash: hashFromBytes<"chunk">(new Uint8Array(32)),
    sizeBytes: 100,
    entries: parts.filter(({ kind }) => kind !== "run" && kind !== "continuation").length,
    chunks: chunkLayouts(parts).length,
  }));
  const files = segments.flat().filter((part) => part.kind === "small" || part.kind === "large") as FileFacts[];
  return {
    entries: refs.reduce((total, { entries }) => total + entries, 0),
    files: files.length,
    bytes: files.reduce((total, { sizeBytes }) => total + sizeBytes, 0),
    chunks: refs.reduce((total, { chunks }) => total + chunks, 0),
    caseSensitive: false,
    segments: refs,
  };
}

/** Asserts that some work ends in a `FormatError` with this code. */
export function refuses(work: () => unknown, code: string): void {
  assert.throws(work, (error: P2pCacheError) => error instanceof FormatError && error.code === code);
}

export function facts(path: string, sizeBytes: number): FileFacts {
  const digest = plainHash(sizeBytes === 0 ? "" : `${path} ${sizeBytes}`);
  return { path, executable: false, mtimeSeconds: 1_700_000_000, sizeBytes, digest };
}

export function file(path: string, sizeBytes: number): SmallFileEntry {
  return { kind: "small", ...facts(path, sizeBytes) };
}

export function directory(path: string): BytelessEntry {
  return { kind: "directory", path };
}

export function link(path: string, target: string): BytelessEntry {
  return { kind: "link", path, target };
}

export function chunk(sizeBytes: number): ChunkRef {
  return { digest: plainHash(`chunk ${sizeBytes}`), sizeBytes };
}

function plainHash(text: string): Uint8Array {
  return Uint8Array.from(hash(utf8Bytes(text)));
}

export function sorted<Entry extends { readonly path: string }>(entries: readonly Entry[]): Entry[] {
  return [...entries].sort((a, b) => compareUtf8(a.path, b.path));
}
