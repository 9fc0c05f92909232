import type { Origin, ServedPayload } from "../../node/ports.ts";
import { ChunkMissingError } from "../../protocol/errors.ts";
import { type ChunkHash, type Hasher, hashFromBytes, type VariantHash } from "../../protocol/hash.ts";
import { chunkLayouts } from "../../protocol/layout.ts";
import { ItemIndex } from "../../protocol/manifest.ts";
import { decodeEnvelope, decodeRelease, type ReleaseRecord } from "../../protocol/record.ts";
import { decodeSegment } from "../../protocol/segments.ts";

/** How a member lies that speaks the protocol rightly. */
export type Lie =
  /** Every byte of every chunk, or of segments as well, is another. */
  | "wrong chunks"
  | "wrong segments"
  /** Pieces are too short and too long in turn. */
  | "wrong sizes"
  /** Each item is the one after it. */
  | "swapped items"
  /** It claims all, and has nothing; or never answers. */
  | "gone"
  | "silence"
  /** It serves rightly, and its records are false. */
  | "record of another variant"
  | "unsigned record"
  | "garbage record"
  | "none";

/** A release with the bytes of its items. */
export interface Released {
  readonly variant: VariantHash;
  readonly record: ReleaseRecord;
  readonly envelope: Uint8Array;
  readonly items: number;
  readonly bytesOf: (item: number) => Promise<Uint8Array>;
}

/** Reads of a release at an origin what is to be served of it. */
export async function releasedAt(origin: Origin, variant: VariantHash, hash: Hasher): Promise<Released> {
  const envelope = (await origin.latestRecord(variant))!;
  const record = decodeRelease(decodeEnvelope(envelope).body, hash);
  const items: { readonly hash: ChunkHash; readonly sizeBytes: number }[] = [...record.root.segments];
  for (const segment of record.root.segments) {
    for (const { chunk } of chunkLayouts(decodeSegment(await origin.chunk(segment.hash, segment.sizeBytes)))) {
      items.push({ hash: hashFromBytes<"chunk">(chunk.digest), sizeBytes: chunk.sizeBytes });
    }
  }
  const bytesOf = (item: number) => origin.chunk(items[item]!.hash, items[item]!.sizeBytes);
  return { variant, record, envelope, items: items.length, bytesOf };
}

/** What a liar serves of a release. */
export function servedWith(lie: Lie, { record, items, bytesOf }: Released): ServedPayload {
  const load = async (item: number): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = new Uint8Array(await bytesOf(lie === "swapped items" ? (item + 1) % items : item));
    const isSegment = item < record.root.segments.length;
    switch (lie) {
      case "wrong chunks":
        return isSegment ? bytes : bytes.map((byte) => byte ^ 1);
      case "wrong segments":
        return bytes.map((byte) => byte ^ 1);
      case "wrong sizes":
        return item % 2 === 0 ? bytes.slice(1) : new Uint8Array([...bytes, 0]);
      case "gone":
        throw new ChunkMissingError("it never was here");
      case "silence":
        return await new Promise(() => undefined);
      case "swapped items":
      case "record of another variant":
      case "unsigned record":
      case "garbage record":
      case "none":
        return bytes;
    }
  };
  return { index: new ItemIndex(record.root), root: record.root, have: () => "all", load };
}
