import { ChunkMissingError, FormatError } from "../../protocol/errors.ts";
import type { ItemIndex, ManifestRoot } from "../../protocol/manifest.ts";
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
 * Compares a placed tree with its manifest, bytes and all: one segment after the other, so that peers and transfers get
 * their turn. What says nothing about the tree (too many open files, a store that closes) is thrown.
 */
export async function verifyHeldTree(
  workers: ItemWorkers,
  at: JobPlace,
  { root, rootBytes }: { readonly root: ManifestRoot; readonly rootBytes: Uint8Array },
): Promise<readonly TreeFault[]> {
  const faults: TreeFault[] = [];
  try {
    for (const { hash: segment } of root.segments) {
      faults.push(...(await workers.do<"verifySegment">({ kind: "verifySegment", at, segment })));
      if (faults.length >= treeFaultsMax) return faults.slice(0, treeFaultsMax);
    }
    faults.push(...(await workers.do<"verifyNames">({ kind: "verifyNames", at, rootBytes })));
  } catch (error) {
    if (!(error instanceof ChunkMissingError) && !(error instanceof FormatError)) throw error;
    faults.push({ path: "", fault: error.message });
  }
  return faults.slice(0, treeFaultsMax);
}
