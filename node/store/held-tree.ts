import { ChunkMissingError, FormatError } from "../../protocol/errors.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import { type JobPlace, type TreeFault, treeFaultsMax } from "./item-jobs.ts";
import type { ItemWorkers } from "./item-workers.ts";

/** Reads an item back in a worker thread, and verifies it. @throws {ChunkMissingError} {TreeDamagedError} */
export function loadItem(
  workers: ItemWorkers,
  at: JobPlace,
  root: ManifestRoot,
  index: ItemIndex,
  item: number,
): Promise<Uint8Array<ArrayBuffer>> {
  if (item < index.segments) {
    const { hash } = root.segments[item]!;
    return workers.do<"loadSegment">({ kind: "loadSegment", objectsPath: at.objectsPath, hash });
  }
  const { segment, chunk } = index.locate(item);
  const place = { segment: root.segments[segment]!.hash, chunk };
  // The same item goes to the same thread, which may still have it.
  return workers.do<"loadChunk">({ kind: "loadChunk", at, place }, { affinity: item });
}

/**
 * Compares a held tree with its manifest, bytes and all, and modes and times where it lies `asPlaced` by us: one segment after the other, so that peers and transfers get
 * their turn, and so that a signal can end it. What says nothing about the tree (too many open files, a store that closes) is thrown.
 */
export async function verifyHeldTree(
  workers: ItemWorkers,
  at: JobPlace,
  { root, rootBytes }: { readonly root: ManifestRoot; readonly rootBytes: Uint8Array },
  { asPlaced, signal }: { readonly asPlaced: boolean; readonly signal?: AbortSignal | undefined },
): Promise<readonly TreeFault[]> {
  const faults: TreeFault[] = [];
  const index = new ItemIndex(root);
  let reading: number | null = null;
  try {
    for (const [i, { hash: segment }] of root.segments.entries()) {
      signal?.throwIfAborted();
      reading = i;
      const job = { kind: "verifySegment", at, segment, asPlaced } as const;
      for (const { path, chunk, fault } of await workers.do<"verifySegment">(job)) {
        faults.push({ path, item: chunk === undefined ? null : index.firstChunkItem(i) + chunk, fault });
      }
      if (faults.length >= treeFaultsMax) return faults.slice(0, treeFaultsMax);
    }
    signal?.throwIfAborted();
    reading = null;
    // What programs wrote beside the files of a copy that Rez made is not ours to judge.
    if (!asPlaced) return faults;
    const others = await workers.do<"verifyNames">({ kind: "verifyNames", at, rootBytes, asPlaced });
    faults.push(...others.map(({ path, fault }) => ({ path, item: null, fault })));
  } catch (error) {
    if (!(error instanceof ChunkMissingError) && !(error instanceof FormatError)) throw error;
    // A manifest segment is an item itself.
    faults.push({ path: "", item: reading, fault: error.message });
  }
  return faults.slice(0, treeFaultsMax);
}
