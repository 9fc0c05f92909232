import { setTimeout as sleep } from "node:timers/promises";
import type { Hasher, VariantHash } from "../protocol/hash.ts";
import { LookRound } from "../protocol/look-round.ts";
import { decodeEnvelope, decodeRecord, type Publishers, type SignedRecord, trustedRecord } from "../protocol/record.ts";
import { verifySignature } from "./keys.ts";

/** Watches the records of all that a node holds. */
export function watchRecords(
  retention: { entries(): readonly { readonly hash: VariantHash }[] },
  looker: { look(variant: VariantHash, signal: AbortSignal): Promise<void> },
  options: Pick<RecordWatchParts, "machines" | "wait"> & { readonly periodMs?: number | undefined },
): RecordWatch {
  const { periodMs, ...rest } = options;
  let [entries, held] = [retention.entries(), [] as VariantHash[]];
  return new RecordWatch({
    held: () => {
      const now = retention.entries();
      if (now !== entries || held.length === 0) held = now.map(({ hash }) => hash);
      entries = now;
      return held;
    },
    ...rest,
    look: (variant, signal) => looker.look(variant, signal),
    ...(periodMs === undefined ? {} : { periodMs }),
  });
}

/** What a peer that asks for a variant's record is given: of what is held here, and of what was withdrawn. */
export async function recordForPeers(
  store: { holding(variant: VariantHash): unknown; record(variant: VariantHash): Promise<Uint8Array | undefined> },
  variant: VariantHash,
  hasher: Hasher,
): Promise<Uint8Array | undefined> {
  const envelope = await store.record(variant);
  if (envelope === undefined || store.holding(variant) !== undefined) return envelope;
  const record = recordIn(() => decodeRecord(decodeEnvelope(envelope).body, hasher));
  return record?.withdrawn === true ? envelope : undefined;
}

/** Reads an envelope that lies here: its record, while somebody whom we trust has signed it. */
export function trustedReader(
  publishers: Publishers,
  hasher: Hasher,
): (envelope: Uint8Array) => SignedRecord | undefined {
  return (envelope) => recordIn(() => trustedRecord(decodeEnvelope(envelope), publishers, verifySignature, hasher));
}

export interface RecordWatchParts {
  readonly held: () => readonly VariantHash[];
  /** Must not reject. */
  readonly look: (variant: VariantHash, signal: AbortSignal) => Promise<void>;
  /** How many there are in the network, this one included; alone unless given. */
  readonly machines?: () => number;
  /** How long until each held variant has been looked at, where few machines look. */
  readonly periodMs?: number;
  readonly random?: () => number;
  /** Waits, or rejects when the signal is aborted; for tests. */
  readonly wait?: (waitMs: number, signal: AbortSignal) => Promise<void>;
}

/** Looks now and then whether what is held was withdrawn or released anew, one variant at a time, until it is closed. */
export class RecordWatch implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;

  constructor(parts: RecordWatchParts) {
    this.#ended = this.#run(parts).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the node stops"));
    await this.#ended;
  }

  /** Ends by a rejection, once it is closed. */
  async #run({
    held,
    look,
    machines = () => 1,
    periodMs = hourMs,
    random = Math.random,
    wait = waitIdly,
  }: RecordWatchParts): Promise<void> {
    const { signal } = this.#stop;
    const round = new LookRound(periodMs, random);
    // A node that has just started has better things to do.
    let waitMs = round.step([], 1).waitMs / restShare;
    for (;;) {
      await wait(waitMs, signal);
      const step = round.step(held(), machines());
      if (step.kind === "look") await look(step.variant, signal);
      signal.throwIfAborted();
      waitMs = step.waitMs;
    }
  }
}

const hourMs = 60 * 60 * 1000;
/** The first look comes after about a minute. */
const restShare = 60;

async function waitIdly(waitMs: number, signal: AbortSignal): Promise<void> {
  await sleep(waitMs, undefined, { signal, ref: false });
}

function recordIn(read: () => SignedRecord): SignedRecord | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
