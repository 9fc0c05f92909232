import { Level } from "level";
import { UnusableError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { parseVariant, type Variant } from "../../protocol/variant.ts";

/** What the catalogue keeps of a variant that lies whole in the cache. */
export interface CatalogueEntry {
  readonly variant: Variant;
  readonly hash: VariantHash;
  readonly payload: PayloadId;
  readonly revision: number;
  /** Rez's hash directory, absolute, and the payload's name in it. */
  readonly directory: string;
  readonly suffix: string;
  readonly bytes: number;
  readonly files: number;
  /** The boot during which it was placed, until a clean end or a check has made it sure. */
  readonly unsureSinceBoot?: string;
}

/** What this machine holds, in memory and in level. Made anew from the cache and `objects/` when it is lost. */
export class Catalogue implements AsyncDisposable {
  readonly #database: Level<string, unknown>;
  readonly #entries = new Map<VariantHash, CatalogueEntry>();
  readonly #payloads = new Map<PayloadId, VariantHash>();
  #bytes = 0;
  /** Whether the database was empty when it was opened. */
  readonly isNew: boolean;

  private constructor(database: Level<string, unknown>, isNew: boolean) {
    this.#database = database;
    this.isNew = isNew;
  }

  /** @throws {UnusableError} when level cannot open its directory. */
  static async open(path: string): Promise<Catalogue> {
    const database = new Level<string, unknown>(path, { valueEncoding: "json" });
    try {
      await database.open();
    } catch (cause) {
      throw new UnusableError(`the node's database at ${path} cannot be opened`, { cause, hint: "p2pcache fsck" });
    }
    const mark = await database.get(formatKey);
    const catalogue = new Catalogue(database, mark === undefined);
    if (mark === undefined) await database.put(formatKey, { version: 1 }, durable);
    for await (const [, value] of database.iterator({ gte: "holding!", lt: 'holding"' })) catalogue.#load(value);
    return catalogue;
  }

  /** Bytes of all payloads held. */
  get bytes(): number {
    return this.#bytes;
  }

  get(variant: VariantHash): CatalogueEntry | undefined {
    return this.#entries.get(variant);
  }

  byPayload(payload: PayloadId): CatalogueEntry | undefined {
    const variant = this.#payloads.get(payload);
    return variant === undefined ? undefined : this.#entries.get(variant);
  }

  all(): CatalogueEntry[] {
    return [...this.#entries.values()];
  }

  /** Durable when it returns. */
  async put(entry: CatalogueEntry): Promise<void> {
    await this.#database.put(`holding!${entry.hash}`, entry, durable);
    this.#forget(entry.hash);
    this.#remember(entry);
  }

  async remove(variant: VariantHash): Promise<void> {
    this.#forget(variant);
    await this.#database.del(`holding!${variant}`, durable);
  }

  /** The number that the node's announcements start with: greater at every start (DESIGN section 6). */
  async nextEpoch(wallMs: number): Promise<number> {
    const stored = (await this.#database.get("epoch")) ?? 0;
    const epoch = Math.max(Number(stored) + 1, Math.floor(wallMs));
    await this.#database.put("epoch", epoch, durable);
    return epoch;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#database.close();
  }

  #load(value: unknown): void {
    const entry = value as CatalogueEntry; // Our own writing; what it says is checked against the disk at opening.
    this.#remember({ ...entry, variant: parseVariant(entry.variant) });
  }

  #remember(entry: CatalogueEntry): void {
    this.#entries.set(entry.hash, entry);
    this.#payloads.set(entry.payload, entry.hash);
    this.#bytes += entry.bytes;
  }

  #forget(variant: VariantHash): void {
    const entry = this.#entries.get(variant);
    if (entry === undefined) return;
    this.#entries.delete(variant);
    if (this.#payloads.get(entry.payload) === variant) this.#payloads.delete(entry.payload);
    this.#bytes -= entry.bytes;
  }
}

const formatKey = "format";
const durable = { sync: true };
