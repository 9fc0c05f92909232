import { parentPort, threadId } from "node:worker_threads";
import { P2pCacheError, VersionError } from "../../protocol/errors.ts";
import { bytesToHex, type ChunkHash, digestBytes } from "../../protocol/hash.ts";
import { type ChunkLayout, chunkLayouts } from "../../protocol/layout.ts";
import { MIB } from "../../protocol/limits.ts";
import { decodeRoot, type ManifestRoot } from "../../protocol/manifest.ts";
import { ManifestChecker } from "../../protocol/manifest-checker.ts";
import { decodeCheckedSegment, decodeSegment, type SegmentPart } from "../../protocol/segments.ts";
import { isPooled } from "../chunk-buffers.ts";
import { openHashEngine } from "../hasher.ts";
import type { ItemPlace } from "../ports.ts";
import { checkChunk, readChunk, writeChunk } from "../tree-file.ts";
import type { ChunkPlace, ItemJob, JobAnswer, JobFailure, JobPlace, PreparedChunks } from "./item-jobs.ts";
import { RecentBytes, RecentMap } from "./recent.ts";
import { cacheError } from "./rez-guard.ts";
import { hasSegment, isSegmentRight, loadSegment, storeSegment, syncSegmentNames } from "./segment-objects.ts";
import { compareChunks, compareEntries, verifyNames, verifySegment } from "./tree-checker.ts";
import { finishTree, isBare, makeSkeleton, measureTree, syncTree } from "./tree-maker.ts";
import { findDamage, measureDrafts, mendNames, mendSegment, prepareDrafts } from "./tree-mender.ts";

// One worker thread: it hashes, writes and reads items, and decodes manifests, away from the main thread.

const engine = openHashEngine();
/** Layouts of the segments used last: 64 of them are the chunks of a payload of about 60,000 files. */
const layouts = new RecentMap<ChunkHash, ChunkLayout[]>(64);
/** Runs that were read last: many peers ask for the same run within a moment, and each costs up to 512 opens. */
const runs = new RecentBytes(8 * MIB);
const port = parentPort!;
let written = 0;

port.on("message", ({ id, job }: { id: number; job: ItemJob }) => {
  try {
    const result = perform(job);
    const transfer = result instanceof Uint8Array ? [result.buffer as ArrayBuffer] : [];
    answer({ id, result }, transfer, job);
  } catch (error) {
    answer({ id, failure: failureOf(error) }, [], job);
  }
});

/** What was given to us goes back, to be filled anew; or is freed now, and not when the collector comes round. */
function answer(said: JobAnswer, transfer: ArrayBuffer[], job: ItemJob): void {
  const given = "bytes" in job ? (job.bytes.buffer as ArrayBuffer) : undefined;
  if (given === undefined) return port.postMessage(said, transfer);
  if (isPooled(given)) return port.postMessage({ ...said, given }, [...transfer, given]);
  given.transfer(0);
  port.postMessage(said, transfer);
}

function perform(job: ItemJob): unknown {
  switch (job.kind) {
    case "storeSegment":
      return storeSegment(job.objectsPath, job.hash, job.bytes, engine.hash, `${threadId}-${written++}`);
    case "checkSegments":
      return checkSegments(job);
    case "loadSegment":
      return loadSegment(job.objectsPath, job.hash, engine.hash);
    case "storeChunk":
      return writeChunk(
        job.at.treePath,
        job.places.map((place) => layoutAt(job.at, place)),
        job.bytes,
        engine.hash,
      );
    case "loadChunk":
      return loadChunk(job.at, job.place);
    case "rangesOf":
      return rangesOf(layoutAt(job.at, job.place));
    case "prepare":
      return prepare(job);
    case "rehash":
      return Uint8Array.from(job.places, (place) => (isRight(job.at, place) ? 1 : 0));
    case "finish":
      return finish(job.at, decodeRoot(job.rootBytes));
    case "sync":
      return sync(job.at, decodeRoot(job.rootBytes));
    case "verifySegment":
      return verifySegment(job.at.treePath, segmentAt(job.at, job.segment), engine.hash, job);
    case "verifyNames":
      return verifyNames(job.at.treePath, segmentsOf(job.at, decodeRoot(job.rootBytes)), job);
    case "syncSegments":
      return syncSegmentNames(job.objectsPath, job.hashes);
    case "compareEntries":
      return compareEntries(job.at.treePath, segmentAt(job.at, job.segment), job);
    case "compareChunks":
      return compareChunks(job.at.treePath, segmentAt(job.at, job.segment), engine.hash, job);
    case "findDamage":
      return findDamage(job.at.treePath, segmentAt(job.at, job.segment), engine.hash);
    case "measureDrafts":
      return measureDrafts(segmentAt(job.at, job.segment), job);
    case "prepareDrafts":
      return prepareDrafts(job.at.treePath, job.draftsPath, segmentAt(job.at, job.segment), engine.hash, job);
    case "mendSegment":
      return mendSegment(job.at.treePath, job.draftsPath, segmentAt(job.at, job.segment), job);
    case "mendNames":
      return mendNames(job.at.treePath, segmentsOf(job.at, decodeRoot(job.rootBytes)));
    case "measure":
      return measureTree(job.path);
  }
}

/** What a tree consists of before its first chunk: kept from the first reading, unless it is very much. */
const bareMax = 20_000;

function checkSegments({ objectsPath, hashes, mayChange }: Extract<ItemJob, { kind: "checkSegments" }>): Uint8Array {
  const isRight = mayChange === false ? isSegmentRight : hasSegment;
  return Uint8Array.from(hashes, (hash) => (isRight(objectsPath, hash, engine.hash) ? 1 : 0));
}

type PrepareJob = Extract<ItemJob, { kind: "prepare" }>;

function loadChunk(at: JobPlace, place: ChunkPlace): Uint8Array<ArrayBuffer> {
  const layout = layoutAt(at, place);
  if (layout.ranges.length === 1) return readChunk(at.treePath, layout, engine.hash);
  const key = bytesToHex(layout.chunk.digest);
  const recent = runs.get(key);
  if (recent !== undefined) return recent.slice();
  const bytes = readChunk(at.treePath, layout, engine.hash);
  runs.set(key, bytes.slice());
  return bytes;
}

function rangesOf({ ranges }: ChunkLayout): ItemPlace["ranges"] {
  return ranges.map(({ path, offsetBytes, sizeBytes }) => ({ path, offsetBytes, sizeBytes }));
}

function prepare({ at, rootBytes, externalLinks, makesTree }: PrepareJob): PreparedChunks {
  const root = decodeRoot(rootBytes);
  const checker = new ManifestChecker(root, { externalLinks });
  const sizesBytes = new Uint32Array(root.segments.length + root.chunks);
  const digests = new Uint8Array(root.chunks * digestBytes);
  const firstItems = new Map<string, number>();
  const copies: number[] = [];
  const bare: SegmentPart[] = [];
  let item = root.segments.length;
  for (const segment of root.segments) {
    const parts = decodeSegment(loadSegment(at.objectsPath, segment.hash, engine.hash));
    checker.add(parts, segment);
    if (bare.length <= bareMax) bare.push(...parts.filter(isBare));
    const found = chunkLayouts(parts);
    // They are wanted next. Should the manifest be refused, nobody asks for them.
    layouts.set(segment.hash, found);
    for (const { chunk } of found) {
      sizesBytes[item] = chunk.sizeBytes;
      digests.set(chunk.digest, (item - root.segments.length) * digestBytes);
      const key = bytesToHex(chunk.digest);
      const first = firstItems.get(key);
      if (first === undefined) firstItems.set(key, item);
      else copies.push(first, item);
      item++;
    }
  }
  checker.finish();
  if (makesTree) makeSkeleton(at.treePath, bare.length <= bareMax ? [bare] : segmentsOf(at, root));
  return { sizesBytes, digests, copies: Uint32Array.from(copies) };
}

function finish(at: JobPlace, root: ManifestRoot): void {
  finishTree(at.treePath, segmentsOf(at, root));
}

function sync(at: JobPlace, root: ManifestRoot): void {
  syncTree(at.treePath, segmentsOf(at, root));
  syncSegmentNames(
    at.objectsPath,
    root.segments.map(({ hash }) => hash),
  );
}

function isRight(at: JobPlace, place: ChunkPlace): boolean {
  try {
    checkChunk(at.treePath, layoutAt(at, place), engine.hash);
    return true;
  } catch {
    return false;
  }
}

function* segmentsOf(at: JobPlace, root: ManifestRoot): Generator<SegmentPart[]> {
  for (const { hash } of root.segments) yield segmentAt(at, hash);
}

function segmentAt(at: JobPlace, hash: ChunkHash): SegmentPart[] {
  return decodeCheckedSegment(loadSegment(at.objectsPath, hash, engine.hash));
}

function layoutAt(at: JobPlace, place: ChunkPlace): ChunkLayout {
  let known = layouts.get(place.segment);
  if (known === undefined) {
    known = chunkLayouts(segmentAt(at, place.segment));
    layouts.set(place.segment, known);
  }
  return known[place.chunk]!;
}

function failureOf(failed: unknown): JobFailure {
  const error = cacheError("the cache", failed);
  const message = error instanceof Error ? error.message : String(error);
  const code = (error as { code?: string }).code;
  const { hint, details } = error instanceof P2pCacheError ? error : {};
  if (error instanceof VersionError) return { class: "FormatError", message, code, hint };
  if (error instanceof P2pCacheError) return { class: error.name as JobFailure["class"], message, code, hint, details };
  return { class: "Error", message, code, hint };
}
