import { join } from "node:path";
import { openHashEngine } from "../../node/hasher.ts";
import { keyId, loadPublisherKey, sign } from "../../node/keys.ts";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { hashFromBytes } from "../../protocol/hash.ts";
import { encodeRoot, type ManifestRoot } from "../../protocol/manifest.ts";
import { defaultAttributes, encodeEnvelope, encodeRecord, signedBytes } from "../../protocol/record.ts";
import { type Variant, variantHash } from "../../protocol/variant.ts";
import type { Studio } from "./studio.ts";

const { hash } = openHashEngine();

/** A release that a trusted publisher signed, and whose manifest is a lie. */
export interface LyingRelease {
  /** As they lie at the origin. */
  readonly segments: readonly Uint8Array[];
  /** What the root says of them, and of the whole. */
  readonly counts?: { readonly entries: number; readonly chunks: number };
  readonly root?: Partial<Omit<ManifestRoot, "segments">>;
  readonly chunks?: readonly Uint8Array[];
}

/** Puts such a release into the studio's origin, in the form that honest ones have. */
export async function releaseLie(studio: Studio, variant: Variant, lie: LyingRelease): Promise<void> {
  const { counts = { entries: 1, chunks: 0 } } = lie;
  const path = join(studio.path, "origin");
  const repository = await FolderRepository.open({ name: "filer", path, network: "test", publishes: true });
  for (const bytes of [...lie.segments, ...(lie.chunks ?? [])]) {
    await repository.putChunk(hashFromBytes<"chunk">(hash(bytes)), bytes);
  }
  const segments = lie.segments.map((bytes) => {
    return { hash: hashFromBytes<"chunk">(hash(bytes)), sizeBytes: bytes.length, ...counts };
  });
  const totals = { entries: counts.entries, files: 0, bytes: 0, chunks: counts.chunks, caseSensitive: false };
  const root: ManifestRoot = { ...totals, ...lie.root, segments };
  const release = { variant, revision: 0, attributes: defaultAttributes, releasedAt: "2026-01-01T00:00:00Z" };
  const body = encodeRecord({ ...release, rootBytes: encodeRoot(root) }, root);
  const key = await loadPublisherKey(join(studio.path, "publisher.pem"));
  const signature = { keyid: keyId(key.rawPublic), sig: sign(key, signedBytes(body)) };
  await repository.putRecord(variantHash(variant, hash), 0, encodeEnvelope({ body, signatures: [signature] }));
}
