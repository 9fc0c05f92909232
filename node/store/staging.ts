import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { NoSpaceError } from "../../protocol/errors.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { variantText } from "../../protocol/variant.ts";
import type { ItemWorkers } from "./item-workers.ts";
import { deleteTree } from "./rez-files.ts";
import type { Need, Reservation, SpaceLedger } from "./space.ts";
import { StagedPayload } from "./staged-payload.ts";

/** Takes away what may go for a variant that needs room. Answers whether something went. @throws {NoSpaceError} */
export type MakeRoom = (record: ReleaseRecord, need: Need) => Promise<boolean>;

export interface OpenStaged {
  readonly prepare: () => Promise<void>;
  readonly signal: AbortSignal | undefined;
  /** No other revision of the variant is held. */
  readonly isNew: boolean;
}

export interface StagingParts {
  readonly path: string;
  readonly objectsPath: string;
  readonly workers: ItemWorkers;
}

/** The trees on their way in: those that are worked on, one transfer at a time each, and those that were left. */
export class Staging {
  readonly #parts: StagingParts;
  readonly #active = new Map<PayloadId, StagedPayload>();
  /** The last in the queue of those who want to work on a payload. */
  readonly #turns = new Map<PayloadId, Promise<void>>();
  readonly #ends = new Map<StagedPayload, () => void>();
  /** What trees that were left take of the disk, by the names of their directories. */
  readonly #leftBytes = new Map<string, number>();
  #measured: Promise<void> | undefined;
  /** Called where there is no room. */
  makeRoom: MakeRoom = async () => false;

  constructor(parts: StagingParts) {
    this.#parts = parts;
  }

  /** Bytes of the trees that nobody works on, as far as they have been measured. */
  get leftBytes(): number {
    let bytes = 0;
    for (const each of this.#leftBytes.values()) bytes += each;
    return bytes;
  }

  get(payload: PayloadId): StagedPayload | undefined {
    return this.#active.get(payload);
  }

  pathOf(payload: PayloadId): string {
    return join(this.#parts.path, payload);
  }

  /**
   * Reserves room for a payload and makes its staging tree, or takes up the one that was left. Who wants a payload that
   * is being worked on waits until that one is left. `prepare` runs before anything of it is written.
   * @throws {NoSpaceError} before anything is written.
   */
  async open(
    record: ReleaseRecord,
    space: SpaceLedger,
    { prepare, signal, isNew }: OpenStaged,
  ): Promise<StagedPayload> {
    const end = await this.#takeTurn(record.payload, signal);
    let reservation: Reservation | undefined;
    try {
      reservation = await this.#reserve(record, space, isNew);
      await prepare();
      const path = this.pathOf(record.payload);
      const staged = await StagedPayload.open(record, path, { ...this.#parts, reservation });
      this.#active.set(record.payload, staged);
      this.#ends.set(staged, end);
      this.#leftBytes.delete(record.payload);
      return staged;
    } catch (error) {
      reservation?.release();
      end();
      throw error;
    }
  }

  /** Ends work on a staged payload; what was verified stays for the next try, unless its manifest was refused. */
  async leave(staged: StagedPayload): Promise<void> {
    const settle = () => (staged.isRefused ? deleteTree(staged.path) : this.#measure(staged.payload));
    await this.#close(staged, settle);
  }

  /** Ends work on a staged payload, and deletes what is left of it. */
  async throwAway(staged: StagedPayload): Promise<void> {
    await this.#close(staged, () => deleteTree(staged.path));
  }

  async leaveAll(): Promise<void> {
    for (const staged of [...this.#ends.keys()]) await this.leave(staged);
  }

  async #close(staged: StagedPayload, settle: () => Promise<void>): Promise<void> {
    const end = this.#ends.get(staged);
    if (end === undefined) return;
    this.#ends.delete(staged);
    try {
      await staged[Symbol.asyncDispose]();
      if (this.#active.get(staged.payload) === staged) this.#active.delete(staged.payload);
      await settle();
    } finally {
      end();
    }
  }

  async #takeTurn(payload: PayloadId, signal: AbortSignal | undefined): Promise<() => void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const before = this.#turns.get(payload);
    const turn = before === undefined ? promise : before.then(() => promise);
    this.#turns.set(payload, turn);
    const end = () => {
      if (this.#turns.get(payload) === turn) this.#turns.delete(payload);
      resolve();
    };
    if (before === undefined) return end;
    try {
      await orAbort(before, signal);
      return end;
    } catch (error) {
      end();
      throw error;
    }
  }

  /** Reserves room for what is missing of a payload; where there is none, trees that were left make room. */
  async #reserve(record: ReleaseRecord, space: SpaceLedger, isNew: boolean): Promise<Reservation> {
    const { root, payload } = record;
    this.#measured ??= this.#measureAll();
    await this.#measured.catch((error: unknown) => {
      this.#measured = undefined;
      throw error;
    });
    const { workers } = this.#parts;
    const here = await workers.do<"measure">({ kind: "measure", path: join(this.pathOf(payload), "tree") });
    // What lies in its own staging tree is counted as reserved from now on.
    const own = this.#leftBytes.get(payload) ?? 0;
    this.#leftBytes.delete(payload);
    const need = {
      bytes: Math.max(0, root.bytes - here.bytes),
      totalBytes: root.bytes,
      inodes: Math.max(0, root.entries + root.segments.length - here.inodes),
      variants: isNew ? 1 : 0,
    };
    try {
      return await this.#reserveOrClear(record, need, space);
    } catch (error) {
      if (own > 0) this.#leftBytes.set(payload, own);
      throw error;
    }
  }

  /** What was left of other fetches goes first, then what is held and may go. */
  async #reserveOrClear(record: ReleaseRecord, need: Need, space: SpaceLedger): Promise<Reservation> {
    for (let rooms = 0; ; ) {
      try {
        return await space.reserve(variantText(record.variant), need);
      } catch (error) {
        if (!(error instanceof NoSpaceError)) throw error;
        if (await this.#dropOldest(record.payload)) continue;
        // Others may take what was freed: not for ever.
        if (rooms++ >= roomTriesMax || !(await this.makeRoom(record, need))) throw error;
      }
    }
  }

  /** @returns whether there was a tree that nobody works on. */
  async #dropOldest(except: PayloadId): Promise<boolean> {
    let oldest: { path: string; name: string; ms: number } | undefined;
    for (const name of this.#leftBytes.keys()) {
      const path = join(this.#parts.path, name);
      // A commit that was cut off is ended first, or what it has moved would be forgotten.
      if (existsSync(join(path, "intent.json"))) continue;
      const ms = (await stat(join(path, "have")).catch(() => undefined))?.mtimeMs ?? 0;
      if (name !== except && ms < (oldest?.ms ?? Number.POSITIVE_INFINITY)) oldest = { path, name, ms };
    }
    if (oldest === undefined) return false;
    this.#leftBytes.delete(oldest.name);
    // Somebody may have taken it up meanwhile.
    if (!this.#turns.has(oldest.name as PayloadId)) await deleteTree(oldest.path);
    return true;
  }

  async #measureAll(): Promise<void> {
    for (const name of await readdir(this.#parts.path)) {
      if (!this.#turns.has(name as PayloadId)) await this.#measure(name);
    }
  }

  async #measure(name: string): Promise<void> {
    const { bytes } = await this.#parts.workers.do<"measure">({ kind: "measure", path: join(this.#parts.path, name) });
    if (bytes > 0) this.#leftBytes.set(name, bytes);
  }
}

const roomTriesMax = 4;

async function orAbort(wait: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return await wait;
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    await Promise.race([wait, promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
