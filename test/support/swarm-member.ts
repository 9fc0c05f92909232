import { setTimeout as setTimeoutAsync } from "node:timers/promises";
import type { JoinListener, ServedPayload, Swarm, SwarmHandlers } from "../../node/ports.ts";
import type { Holding as Held } from "../../protocol/announcement.ts";
import { Bitmap } from "../../protocol/bitmap.ts";
import type { PeerName } from "../../protocol/directory.ts";
import { P2pCacheError } from "../../protocol/errors.ts";
import {
  hashFromBytes,
  type PayloadId,
  parsePayloadId,
  parseVariantHash,
  type VariantHash,
} from "../../protocol/hash.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import type { Fault } from "../../protocol/standing.ts";

/** What a swarm told its owner. */
export type Heard =
  | { readonly kind: "ready" | "left"; readonly peer: PeerName }
  | { readonly kind: "learnt"; readonly peer: PeerName; readonly added: readonly Held[] | "many" }
  | { readonly kind: "wanted"; readonly peer: PeerName; readonly payload: PayloadId }
  | { readonly kind: "unjoined"; readonly peer: PeerName; readonly payload: PayloadId }
  | { readonly kind: "registered"; readonly peer: PeerName; readonly question: RegisterQuestion }
  | { readonly kind: "gave"; readonly peer: PeerName; readonly bytes: number }
  | {
      readonly kind: "misbehaved";
      readonly peer: PeerName;
      readonly fault: Fault | undefined;
      readonly reason: string;
    };

/** Events in order, of which a test may await one: also one that has come already. */
export class Events<Event> {
  readonly all: Event[] = [];
  readonly #waiting = new Set<() => void>();

  add(event: Event): void {
    this.all.push(event);
    for (const look of [...this.#waiting]) look();
  }

  /** The first event that passes. @throws {Error} when none does in time, naming what came instead. */
  async until(what: string, test: (event: Event) => boolean, withinMs = 10_000): Promise<Event> {
    const { promise, resolve, reject } = Promise.withResolvers<Event>();
    const look = () => {
      const found = this.all.find(test);
      if (found !== undefined) resolve(found);
    };
    const timer = setTimeout(() => {
      const came = JSON.stringify(this.all.slice(-20)).slice(0, 2_000);
      reject(new Error(`${what} did not come within ${withinMs} ms, but ${came}`));
    }, withinMs);
    this.#waiting.add(look);
    look();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
  }

  count(test: (event: Event) => boolean): number {
    return this.all.filter(test).length;
  }
}

/** The owner of a swarm in a test: what it answers, and what it heard. */
export class Member {
  readonly heard: Events<Heard> = new Events();
  readonly records: Map<VariantHash, Uint8Array> = new Map();
  readonly payloads: Map<PayloadId, ServedPayload> = new Map();
  /** What it says as a registrar. */
  answer: RegisterAnswer | undefined;
  holdings: readonly (readonly [VariantHash, PayloadId])[] = [];

  readonly handlers: SwarmHandlers = {
    record: async (variant) => this.records.get(variant),
    serve: async (payload) => this.payloads.get(payload),
    whole: () => this.holdings,
    raiseEpoch: async () => undefined,
    peerReady: (peer) => this.heard.add({ kind: "ready", peer }),
    peerLeft: (peer) => this.heard.add({ kind: "left", peer }),
    learnt: (peer, added) => this.heard.add({ kind: "learnt", peer, added }),
    wanted: (peer, payload) => this.heard.add({ kind: "wanted", peer, payload }),
    gave: (peer, bytes) => this.heard.add({ kind: "gave", peer, bytes }),
    misbehaved: (peer, fault, reason) => this.heard.add({ kind: "misbehaved", peer, fault, reason }),
    registered: (peer, _, question) => {
      this.heard.add({ kind: "registered", peer, question });
      return this.answer;
    },
    mayJoin: () => true,
    unjoined: (peer, payload) => this.heard.add({ kind: "unjoined", peer, payload }),
    demand: () => undefined,
  };

  ready(swarm: Pick<Swarm, "id">): Promise<Heard> {
    return this.heard.until(`that ${swarm.id} is ready`, (event) => event.kind === "ready" && event.peer === swarm.id);
  }
}

/** What a join at one peer brought. */
export type Brought =
  | { readonly kind: "have" | "gone"; readonly items: readonly number[] }
  | { readonly kind: "piece"; readonly item: number; readonly bytes: Uint8Array }
  | { readonly kind: "busy"; readonly items: readonly number[]; readonly retryAfterMs: number }
  | { readonly kind: "ended" };

/** A listener that remembers. */
export class Listener extends Events<Brought> implements JoinListener {
  have(items: readonly number[]): void {
    this.add({ kind: "have", items });
  }
  piece(item: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.add({ kind: "piece", item, bytes });
  }
  busy(items: readonly number[], retryAfterMs: number): void {
    this.add({ kind: "busy", items, retryAfterMs });
  }
  gone(items: readonly number[]): void {
    this.add({ kind: "gone", items });
  }
  ended(): void {
    this.add({ kind: "ended" });
  }

  /** The bytes of an item, once they have come. */
  async bytesOf(item: number): Promise<Uint8Array> {
    const found = await this.until(`item ${item}`, (event) => event.kind === "piece" && event.item === item);
    return (found as Extract<Brought, { kind: "piece" }>).bytes;
  }

  pieces(): number {
    return this.count(({ kind }) => kind === "piece");
  }
}

/** A payload of one segment and some chunks, whose items are these bytes. */
export function servedPayload(
  items: readonly Uint8Array[],
  options: { readonly have?: Bitmap; readonly load?: ServedPayload["load"] } = {},
): ServedPayload {
  const chunks = items.length - 1;
  const segment = { hash: hashFromBytes<"chunk">(new Uint8Array(32)), sizeBytes: items[0]!.length, entries: 1, chunks };
  const root: ManifestRoot = { entries: 1, files: 1, bytes: 0, chunks, caseSensitive: false, segments: [segment] };
  const load = options.load ?? (async (item: number) => new Uint8Array(items[item]!));
  return { index: new ItemIndex(root), root, have: () => options.have ?? "all", load };
}

/** What somebody asks a registrar who wants a payload of nine groups and has nothing of it. */
export const registerQuestion: RegisterQuestion = {
  groups: 9,
  site: "here",
  held: new Uint8Array(2),
  leases: [],
  wants: 2,
  isFarOnly: false,
  isReady: true,
  lacking: [],
  seeks: true,
};

/** A bitmap with some bits set. */
export function bits(length: number, items: readonly number[]): Bitmap {
  const bitmap = new Bitmap(length);
  for (const item of items) bitmap.add(item);
  return bitmap;
}

/** A payload's id that means nothing: two digits over and over. */
export function payloadNamed(digits: string): PayloadId {
  return parsePayloadId(digits.repeat(32));
}

export function variantNamed(digits: string): VariantHash {
  return parseVariantHash(digits.repeat(32));
}

/** Waits for what nobody tells of. @throws {Error} when it does not come in time. */
export async function eventually(what: string, isSo: () => boolean, withinMs = 10_000): Promise<void> {
  const untilMs = performance.now() + withinMs;
  while (!isSo()) {
    if (performance.now() > untilMs) throw new Error(`${what} did not come within ${withinMs} ms`);
    await setTimeoutAsync(20);
  }
}

/** The same work, or an error once it has taken too long. */
export async function within<Result>(ms: number, what: string, work: Promise<Result>): Promise<Result> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`${what} took more than ${ms} ms`)), ms);
  try {
    return await Promise.race([work, late.promise]);
  } catch (error) {
    // uvu takes `details` for its own, and falls over ours.
    if (error instanceof P2pCacheError) throw new Error(`${error.code}: ${error.message}`, { cause: error });
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** What a promise is rejected with. @throws {Error} when it is not. */
export async function failureOf(
  work: Promise<unknown>,
): Promise<Error & { readonly code?: string; readonly exit?: number }> {
  const outcome = await work.then(
    (value) => ({ value }),
    (error: Error) => ({ error }),
  );
  if ("error" in outcome) return outcome.error;
  throw new Error(`it did not fail, but answered ${String(outcome.value)}`);
}
