import { accessSync, constants, statSync } from "node:fs";
import { readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Level } from "level";
import { isMap } from "../../protocol/cbor.ts";
import { BusyError, FormatError, NoSpaceError, UnusableError, VersionError } from "../../protocol/errors.ts";
import { type PayloadId, parsePayloadId, parseVariantHash, type VariantHash } from "../../protocol/hash.ts";
import { parseVariant, type Variant } from "../../protocol/variant.ts";
import { closeToOthers, hasCode } from "./rez-guard.ts";
import { sealValue, unsealValue } from "./sealed.ts";

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
  /**
   * The boot during which it was placed, until a clean end or a check has made it sure; something that is no boot's
   * name where it must be checked in any case.
   */
  readonly unsureSinceBoot?: string;
  readonly isDamaged?: true;
  /** Rez made this copy, and we have taken it for ours: modes, times and further files are as they are. */
  readonly isAdopted?: true;
}

export interface CatalogueOptions {
  /** Told when a broken database was moved aside. */
  readonly onProblem?: (problem: string) => void;
  readonly wallMs?: () => number;
}

/** What this machine holds, in memory and in level. Made anew from the cache and `objects/` when it is lost. */
export class Catalogue implements AsyncDisposable {
  #database: Level<string, unknown>;
  readonly #onProblem: CatalogueOptions["onProblem"];
  readonly #wallMs: () => number;
  /** Writes wait for it. */
  #renewal: Promise<void> = Promise.resolve();
  #hasFailed = false;
  readonly #entries = new Map<VariantHash, CatalogueEntry>();
  readonly #payloads = new Map<PayloadId, Set<VariantHash>>();
  #all: readonly CatalogueEntry[] | undefined;
  #bytes = 0;

  private constructor(database: Level<string, unknown>, { onProblem, wallMs = Date.now }: CatalogueOptions) {
    this.#database = database;
    this.#onProblem = onProblem;
    this.#wallMs = wallMs;
  }

  /**
   * Opens the database in its directory; a broken one is moved aside, and the last such one is kept.
   * @throws {UnusableError} when the directory cannot be used; {BusyError} CACHE_IN_USE when a process has it open;
   * {VersionError} when a newer p2pcache wrote it.
   */
  static async open(path: string, options: CatalogueOptions = {}): Promise<Catalogue> {
    try {
      // A file in the directory's place is moved aside like any other broken database.
      if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) closeToOthers(path);
      return await Catalogue.#load(path, options);
    } catch (error) {
      checkBroken(path, error);
      const aside = await moveAside(path, options.wallMs ?? Date.now);
      options.onProblem?.(`the node's database was broken, lies now at ${aside}, and is made anew: ${String(error)}`);
    }
    try {
      closeToOthers(path);
      return await Catalogue.#load(path, options);
    } catch (cause) {
      const hint = `see that ${dirname(path)} can be written, then start again`;
      throw new UnusableError(`no database can be made at ${path}`, { cause, hint });
    }
  }

  /** @throws what level throws; {FormatError} for a mark that is not ours; {VersionError}. */
  static async #load(path: string, options: CatalogueOptions): Promise<Catalogue> {
    const database = new Level<string, unknown>(path, { valueEncoding: "json" });
    try {
      await database.open();
      const mark = await database.get(formatKey);
      if (mark === undefined) await database.put(formatKey, { version: 1 }, durable);
      else if (!isMap(mark)) throw new FormatError("the mark of the node's database is not an object");
      else if (mark.version !== 1) throw new VersionError("the node's database", mark.version);
      const catalogue = new Catalogue(database, options);
      for await (const [key, value] of database.iterator({ gte: "holding!", lt: 'holding"' })) {
        const entry = readEntry(value);
        if (entry !== undefined && key === `holding!${entry.hash}`) catalogue.#remember(entry);
        else await catalogue.#drop(key);
      }
      return catalogue;
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  /** Bytes of all payloads held. */
  get bytes(): number {
    return this.#bytes;
  }

  get(variant: VariantHash): CatalogueEntry | undefined {
    return this.#entries.get(variant);
  }

  hasPayload(payload: PayloadId): boolean {
    return this.#payloads.has(payload);
  }

  /** Every variant that has this tree. */
  byPayload(payload: PayloadId): CatalogueEntry[] {
    return [...(this.#payloads.get(payload) ?? [])].map((variant) => this.#entries.get(variant)!);
  }

  /** The same array until anything changes. */
  all(): readonly CatalogueEntry[] {
    this.#all ??= [...this.#entries.values()];
    return this.#all;
  }

  /** Durable when it returns. @throws {NoSpaceError} when the state's disk is full: it is not held then. */
  async put(entry: CatalogueEntry): Promise<void> {
    await this.#write((database) => database.put(`holding!${entry.hash}`, sealValue(entry), durable));
    this.#forget(entry.hash);
    this.#remember(entry);
  }

  async remove(variant: VariantHash): Promise<void> {
    this.#forget(variant);
    await this.#write((database) => database.del(`holding!${variant}`, durable));
  }

  /** What else is kept of one kind, by name: pins, leases, times. */
  async facts(kind: FactKind): Promise<Map<string, unknown>> {
    const facts = new Map<string, unknown>();
    const range = { gte: `${kind}!`, lt: `${kind}"` };
    for await (const [key, sealed] of this.#database.iterator(range)) {
      const value = unsealValue(sealed);
      if (value === undefined) await this.#drop(key);
      else facts.set(key.slice(kind.length + 1), value);
    }
    return facts;
  }

  /** Writes facts, or takes away those that are undefined; durable when it returns. @throws {NoSpaceError} */
  async putFacts(kind: FactKind, facts: ReadonlyMap<string, unknown>): Promise<void> {
    const changes = [...facts].map(([name, value]) => {
      const key = `${kind}!${name}`;
      return value === undefined
        ? ({ type: "del", key } as const)
        : ({ type: "put", key, value: sealValue(value) } as const);
    });
    for (let at = 0; at < changes.length; at += batchMax) {
      await this.#write((database) => database.batch(changes.slice(at, at + batchMax), durable));
    }
  }

  /** Makes the database anew without its holdings; what else can be read of it is taken along. */
  async renew(): Promise<void> {
    await this.#renewal;
    const renewed = this.#renew();
    this.#renewal = renewed.catch(() => undefined);
    await renewed;
  }

  /** The number that the node's announcements start with: greater at every start (DESIGN section 6). */
  async nextEpoch(wallMs: number): Promise<number> {
    const sealed = await this.#database.get("epoch");
    const stored = Number((typeof sealed === "number" ? sealed : unsealValue(sealed)) ?? 0);
    const epoch = Math.max(Number.isSafeInteger(stored) ? stored + 1 : 0, Math.floor(wallMs));
    await this.#write((database) => database.put("epoch", sealValue(epoch), durable));
    return epoch;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#database.close();
  }

  async #renew(): Promise<void> {
    const old = this.#database;
    const kept: (readonly [string, unknown])[] = [];
    try {
      for await (const [key, value] of old.iterator()) if (!key.startsWith("holding!")) kept.push([key, value]);
    } catch (error) {
      this.#onProblem?.(`not all of the node's database can be read: ${String(error)}`);
    }
    await old.close();
    await moveAside(old.location, this.#wallMs);
    closeToOthers(old.location);
    const anew = new Level<string, unknown>(old.location, { valueEncoding: "json" });
    await anew.open();
    const puts = kept.map(([key, value]) => ({ type: "put", key, value }) as const);
    for (let at = 0; at < puts.length; at += batchMax) await anew.batch(puts.slice(at, at + batchMax), durable);
    this.#database = anew;
    for (const variant of [...this.#entries.keys()]) this.#forget(variant);
  }

  /** An entry rotted. What a holding was is found again in the cache, and checked; a pin is lost. */
  async #drop(key: string): Promise<void> {
    await this.#database.del(key, durable);
    this.#onProblem?.(`an entry of the node's database was damaged, and was dropped: ${key}`);
  }

  /** LevelDB says what the disk refused in words only, and takes in nothing more after that until it is opened anew. */
  async #write(work: (database: Level<string, unknown>) => Promise<void>): Promise<void> {
    await this.#renewal;
    if (this.#hasFailed) await this.#reopen();
    try {
      await work(this.#database);
    } catch (cause) {
      if (hasCode(cause, "LEVEL_DATABASE_NOT_OPEN")) throw cause;
      this.#hasFailed = true;
      const { location } = this.#database;
      if (isDiskFull(cause)) throw new NoSpaceError(`no space left for the node's database ${location}`, { cause });
      throw new UnusableError(`the node's database ${location} cannot be written: ${String(cause)}`, { cause });
    }
  }

  async #reopen(): Promise<void> {
    this.#hasFailed = false;
    const reopened = this.#database.close().then(() => this.#database.open());
    this.#renewal = reopened.catch(() => {
      this.#hasFailed = true;
    });
    await this.#renewal;
  }

  #remember(entry: CatalogueEntry): void {
    this.#all = undefined;
    this.#entries.set(entry.hash, entry);
    this.#payloads.set(entry.payload, (this.#payloads.get(entry.payload) ?? new Set()).add(entry.hash));
    this.#bytes += entry.bytes;
  }

  #forget(variant: VariantHash): void {
    const entry = this.#entries.get(variant);
    if (entry === undefined) return;
    this.#all = undefined;
    this.#entries.delete(variant);
    const others = this.#payloads.get(entry.payload);
    others?.delete(variant);
    if (others?.size === 0) this.#payloads.delete(entry.payload);
    this.#bytes -= entry.bytes;
  }
}

/** What is kept beside the holdings. */
export type FactKind = "pin" | "lease" | "touch";

const formatKey = "format";
/** DESIGN section 11. */
const batchMax = 1000;
const durable = { sync: true };

/** Lets pass only what a new database mends. */
function checkBroken(path: string, error: unknown): void {
  if (error instanceof VersionError || error instanceof UnusableError) throw error;
  const cause = error instanceof Error ? error.cause : undefined;
  if (hasCode(cause, "LEVEL_LOCKED")) {
    throw new BusyError(`the database at ${path} is open in another process`, { code: "CACHE_IN_USE", cause: error });
  }
  for (const directory of [dirname(path), path]) {
    // A file in the directory's place is broken like any other database.
    if (statSync(directory, { throwIfNoEntry: false })?.isDirectory()) checkUsable(directory, error);
  }
  if (isDiskFull(cause) || /Too many open files/.test(String(cause))) {
    throw new UnusableError(`the database at ${path} cannot be opened: ${String(cause)}`, { cause: error });
  }
}

function isDiskFull(error: unknown): boolean {
  return /ENOSPC|No space left|Disk quota exceeded/.test(String(error));
}

function checkUsable(directory: string, cause: unknown): void {
  try {
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch {
    const hint = "chown it to the user that runs p2pcache, and see that its mount is not read-only";
    throw new UnusableError(`${directory} cannot be used: this process may not read and write there`, { cause, hint });
  }
}

/** Renames a broken database, and deletes those that were moved aside before. @returns where it is now. */
async function moveAside(path: string, wallMs: () => number): Promise<string> {
  const prefix = `${basename(path)}.broken-`;
  for (const name of await readdir(dirname(path))) {
    if (name.startsWith(prefix)) await rm(join(dirname(path), name), { recursive: true, force: true });
  }
  const aside = join(dirname(path), `${prefix}${wallMs()}`);
  await rename(path, aside);
  return aside;
}

function readEntry(sealed: unknown): CatalogueEntry | undefined {
  try {
    // One that was written before there were seals has its hash on top.
    return parseEntry(isMap(sealed) && typeof sealed.hash === "string" ? sealed : unsealValue(sealed));
  } catch {
    return undefined;
  }
}

/** Our own writing, as far as a disk keeps it. What it says of the cache is checked against the cache at opening. */
function parseEntry(value: unknown): CatalogueEntry {
  if (!isMap(value)) throw new FormatError("an entry of the node's database is not an object");
  const { variant, hash, payload, revision, directory, suffix, bytes, files, unsureSinceBoot, isDamaged, isAdopted } =
    value;
  const texts = [hash, payload, directory, suffix];
  const counts = [revision, bytes, files];
  const isOurs = texts.every((text) => typeof text === "string") && counts.every(Number.isSafeInteger);
  if (!isOurs) throw new FormatError("an entry of the node's database lacks a field");
  return {
    variant: parseVariant(variant),
    hash: parseVariantHash(hash as string),
    payload: parsePayloadId(payload as string),
    revision: revision as number,
    directory: directory as string,
    suffix: suffix as string,
    bytes: bytes as number,
    files: files as number,
    ...(typeof unsureSinceBoot === "string" ? { unsureSinceBoot } : {}),
    ...(isDamaged === true ? { isDamaged } : {}),
    ...(isAdopted === true ? { isAdopted } : {}),
  };
}
