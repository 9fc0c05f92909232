import * as assert from "uvu/assert";
import type { FetchStore, ServedPayload, StagedTree } from "../../node/ports.ts";
import type { SpaceLimits } from "../../node/store/space.ts";
import { P2pCacheError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import type { Variant } from "../../protocol/variant.ts";
import type { Payload } from "../support/payloads.ts";

/** A store as its tests see it: what the fetcher uses, and what peers are served from. */
interface TestedStore extends FetchStore {
  announced(): readonly (readonly [VariantHash, PayloadId])[];
  serve(payload: PayloadId): Promise<ServedPayload | undefined>;
}

/** A store that a test has for itself, empty. */
export interface OpenedStore {
  readonly store: TestedStore;
  /** Somebody else puts something at a variant's place. */
  putForeign(variant: Variant): void;
  /** Somebody else puts just the released tree there. */
  putCopy(payload: Payload, treePath: string): void;
  /** Changes a byte of every file of a held variant. */
  damage(variant: VariantHash): void;
  /** The bytes of a file in a held tree. */
  content(variant: VariantHash, path: string): Uint8Array;
  close(): Promise<void>;
}

export type Rule = (
  text: string,
  check: (opened: OpenedStore, payload: Payload, treePath: string) => Promise<void>,
  limits?: SpaceLimits,
) => void;

export function stage({ store }: OpenedStore, { hash, record, envelope }: Payload): Promise<StagedTree> {
  return store.stage(hash, record, envelope);
}

export async function rejects(promise: Promise<unknown>, ...codes: string[]): Promise<void> {
  const error = await promise.then(
    () => assert.unreachable(`nothing was refused, instead of ${codes.join()}`),
    (reason: unknown) => reason,
  );
  assert.instance(error, P2pCacheError);
  assert.ok(codes.includes((error as P2pCacheError).code), `${(error as P2pCacheError).code}: ${String(error)}`);
}

export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a).equals(b);
}
