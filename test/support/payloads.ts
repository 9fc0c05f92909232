import * as fs from "node:fs";
import { join } from "node:path";
import { openHashEngine } from "../../node/hasher.ts";
import { importTree } from "../../node/payloads/importer.ts";
import type { StagedTree } from "../../node/ports.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import type { BuiltManifest } from "../../protocol/manifest-builder.ts";
import {
  decodeRelease,
  defaultAttributes,
  encodeEnvelope,
  encodeRecord,
  type RecordAttributes,
  type ReleaseRecord,
} from "../../protocol/record.ts";
import type { ChunkDescription } from "../../protocol/transfer.ts";
import { type Variant, variantHash } from "../../protocol/variant.ts";
import { noise } from "./noise.ts";

export const engine = openHashEngine();
export const repository = "studio";

/** A released tree: all that a store is given of it. */
export interface Payload {
  readonly hash: VariantHash;
  readonly record: ReleaseRecord;
  readonly envelope: Uint8Array;
  /** Segments and chunks, by name. */
  readonly items: ReadonlyMap<ChunkHash, Uint8Array>;
}

export interface PayloadOptions {
  readonly variant?: Variant;
  readonly revision?: number;
  readonly supersedes?: ReleaseRecord;
  readonly attributes?: Partial<RecordAttributes>;
}

export function variantOf(name: string, index?: number): Variant {
  return { kind: "rez", repository, name, version: "1.0.0", ...(index === undefined ? {} : { index }) };
}

/** Releases a tree on this disk. */
export async function release(treePath: string, options: PayloadOptions = {}): Promise<Payload> {
  const items = new Map<ChunkHash, Uint8Array>();
  const keep = async (hash: ChunkHash, bytes: Uint8Array) => void items.set(hash, bytes);
  const built = await importTree(treePath, { engine, onChunk: keep, onSegment: keep });
  return { ...releaseOf(built, options), items };
}

/** A record of a manifest, signed by nobody: the store asks for no signatures. */
export function releaseOf(built: BuiltManifest, options: PayloadOptions = {}): Omit<Payload, "items"> {
  const { variant = variantOf("foo"), revision = 0, supersedes } = options;
  const body = encodeRecord(
    {
      variant,
      revision,
      rootBytes: built.rootBytes,
      attributes: { ...defaultAttributes, variantRequires: ["python-3.11"], ...options.attributes },
      releasedAt: "2026-01-01T00:00:00Z",
      ...(supersedes === undefined ? {} : { supersedes: supersedes.payload }),
    },
    built.root,
  );
  const envelope = encodeEnvelope({ body, signatures: [] });
  return { hash: variantHash(variant, engine.hash), record: decodeRelease(body, engine.hash), envelope };
}

/** An item's bytes, in a buffer that may be given away. */
export function itemBytes({ items }: Payload, hash: ChunkHash): Uint8Array<ArrayBuffer> {
  return new Uint8Array(items.get(hash)!);
}

/** Puts the segments that are missing, and describes. */
export async function describe(staged: StagedTree, payload: Payload, signal?: AbortSignal): Promise<ChunkDescription> {
  const stored = new Set(staged.storedSegments());
  for (let item = 0; item < staged.index.segments; item++) {
    if (!stored.has(item)) await staged.put(item, itemBytes(payload, staged.hashOf(item)));
  }
  return await staged.describe(signal);
}

/** The chunk items that are still to be asked for. */
export function missingChunks(staged: StagedTree, { copiesOf, stored }: ChunkDescription): number[] {
  const without = new Set([...stored, ...[...copiesOf.values()].flat()]);
  const { segments, items } = staged.index;
  return Array.from({ length: items - segments }, (_, i) => segments + i).filter((item) => !without.has(item));
}

/** Puts whatever is missing. Answers the chunk items that were put. */
export async function fill(staged: StagedTree, payload: Payload): Promise<number[]> {
  const missing = missingChunks(staged, await describe(staged, payload));
  await Promise.all(missing.map((item) => staged.put(item, itemBytes(payload, staged.hashOf(item)))));
  return missing;
}

/**
 * A tree with one of everything: tools, hard links, runs of small files, two large files with the same bytes, empty
 * files and directories, links, among them a dangling one, and times of long ago.
 */
export function writeSampleTree(path: string, seed = 1): void {
  for (const directory of ["bin", "empty", "lib/deep", "big"]) fs.mkdirSync(join(path, directory), { recursive: true });
  fs.writeFileSync(join(path, "bin/tool"), `#!/bin/sh\n# ${seed}\n`);
  fs.chmodSync(join(path, "bin/tool"), 0o755);
  fs.linkSync(join(path, "bin/tool"), join(path, "bin/same-tool"));
  for (let i = 0; i < 20; i++) fs.writeFileSync(join(path, `lib/deep/${i}.py`), noise(seed * 100 + i, 40_000 + i));
  fs.writeFileSync(join(path, "lib/nothing"), "");
  for (const name of ["one", "two"]) fs.writeFileSync(join(path, "big", name), noise(seed, 1_600_000));
  fs.symlinkSync("../lib/deep/3.py", join(path, "bin/link"));
  fs.symlinkSync("nowhere", join(path, "dangling"));
  let time = 1_500_000_000;
  for (const file of [
    "bin/tool",
    "lib/nothing",
    "big/one",
    "big/two",
    ...Array.from({ length: 20 }, (_, i) => `lib/deep/${i}.py`),
  ]) {
    fs.utimesSync(join(path, file), time, time++);
  }
}

/** What differs between a source and the tree that was placed for it; empty when nothing does. */
export function treeDifferences(source: string, placed: string): string[] {
  const differences: string[] = [];
  const names = (path: string) => fs.readdirSync(path).sort();
  const compare = (path: string): void => {
    const [a, b] = [fs.lstatSync(join(source, path)), fs.lstatSync(join(placed, path), { throwIfNoEntry: false })];
    if (b === undefined) return void differences.push(`${path} is missing`);
    if ((a.mode & fs.constants.S_IFMT) !== (b.mode & fs.constants.S_IFMT))
      return void differences.push(`${path} is of another type`);
    if (a.isSymbolicLink()) {
      if (fs.readlinkSync(join(source, path)) !== fs.readlinkSync(join(placed, path)))
        differences.push(`${path} points elsewhere`);
      return;
    }
    const mode = a.isDirectory() || (a.mode & 0o100) !== 0 ? 0o555 : 0o444;
    if ((b.mode & 0o7777) !== mode) differences.push(`${path} has mode ${(b.mode & 0o7777).toString(8)}`);
    if (a.isDirectory()) {
      if (names(join(source, path)).join() !== names(join(placed, path)).join())
        differences.push(`${path} has other names`);
      for (const name of names(join(source, path))) compare(join(path, name));
      return;
    }
    if (Math.floor(a.mtimeMs / 1000) !== Math.floor(b.mtimeMs / 1000)) differences.push(`${path} has another time`);
    if (b.nlink !== 1) differences.push(`${path} is a hard link`);
    if (!fs.readFileSync(join(source, path)).equals(fs.readFileSync(join(placed, path))))
      differences.push(`${path} has other content`);
  };
  compare("");
  return differences;
}

/** Deletes a tree whose directories are read-only. */
export function removeTree(path: string): void {
  const open = (directory: string): void => {
    fs.chmodSync(directory, 0o700);
    for (const entry of fs.readdirSync(directory, { withFileTypes: true }))
      if (entry.isDirectory()) open(join(directory, entry.name));
  };
  if (fs.lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) open(path);
  fs.rmSync(path, { recursive: true, force: true });
}
