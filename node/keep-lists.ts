import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { NotTrustedError, P2pCacheError } from "../protocol/errors.ts";
import { compareBytes } from "../protocol/hash.ts";
import {
  checkNewer,
  decodeKeepList,
  decodePolicyList,
  isExpired,
  isToolset,
  type KeepPlace,
  keepListForm,
  type PolicyList,
  type SignedKeepList,
  type ToolsetKey,
  trustedKeepList,
} from "../protocol/keep-alive.ts";
import { KeepIndex } from "../protocol/keep-index.ts";
import { keepListBytesMax } from "../protocol/limits.ts";
import { decodeEnvelope } from "../protocol/record.ts";
import { parseUtcTime } from "../protocol/utc-time.ts";
import { writeDurably } from "./durable-file.ts";
import { keyId, parsePublicKey, verifySignature } from "./keys.ts";
import type { Clock, KeepAliveSource } from "./ports.ts";
import { makeDirectory } from "./store/rez-guard.ts";
import { sealBytes, unsealBytes } from "./store/sealed.ts";

export interface KeepListsParts {
  /**
   * Where the newest list of each toolset is kept: it counts until a newer one comes, through restarts and offline. Beside
   * it, in `<directory>.copy`, lies the same: no loss of one file makes an older version count (P6).
   */
  readonly directory: string;
  readonly place: KeepPlace;
  readonly clock: Clock;
  /** A list that came, or was kept, is not believed. */
  readonly onRefused: (toolset: string, reason: string) => void;
}

/** The keep-alive lists that this machine follows: the highest version of each that was ever seen (P6). */
export class KeepLists {
  readonly #parts: KeepListsParts;
  #keys: ReadonlyMap<string, ToolsetKey> = new Map();
  /** One change after the other: of two lists that come at once the later one stays. */
  #last: Promise<unknown> = Promise.resolve();
  /** By toolset: the newest envelope, also one whose key does not count any more: nothing older may come after it. */
  readonly #envelopes = new Map<string, Uint8Array>();
  #lists: ReadonlyMap<string, SignedKeepList> = new Map();
  #policyLists: ReadonlyMap<string, SignedKeepList> = new Map();
  /** As it was said last. */
  #policy: readonly PolicyList[] = [];
  #index: { readonly index: KeepIndex; readonly untilMs: number; readonly fromMs: number } | undefined;
  readonly #refused = new Map<string, string>();

  private constructor(parts: KeepListsParts) {
    this.#parts = parts;
  }

  /** Reads what is kept; nobody is asked. */
  static async open(keys: ReadonlyMap<string, string>, parts: KeepListsParts): Promise<KeepLists> {
    const lists = new KeepLists(parts);
    for (const directory of directoriesOf(parts)) makeDirectory(directory);
    await lists.follow(keys);
    return lists;
  }

  /** The lists that count on this machine or elsewhere, expired ones among them; the policy's before those at the origins. */
  all(): SignedKeepList[] {
    return [...new Map([...this.#lists, ...this.#policyLists]).values()];
  }

  /** For `status`: what has lost its force. */
  warnings(): string[] {
    const nowMs = this.#parts.clock.wallMs();
    const expired = this.all().filter((list) => isExpired(list, nowMs));
    return expired.map(
      ({ toolset, expires }) => `the keep-alive list of ${toolset} has expired at ${expires}: nothing is kept for it`,
    );
  }

  /**
   * What the network's policy says by now, all of it. A list that was there before and has expired since goes on being
   * known as expired, so that no age takes what it named.
   */
  takePolicy(lists: readonly PolicyList[]): void {
    if (lists.length === this.#policy.length && lists.every((list, i) => isSame(list, this.#policy[i]!))) return;
    this.#policy = lists;
    const nowMs = this.#parts.clock.wallMs();
    const taken = new Map([...this.#policyLists].filter(([, list]) => isExpired(list, nowMs)));
    for (const list of lists) {
      try {
        taken.set(list.toolset, decodePolicyList(list));
      } catch (error) {
        if (!(error instanceof P2pCacheError)) throw error;
        this.#refuse(list.toolset, `in the policy: ${error.message}`);
      }
    }
    this.#policyLists = taken;
    this.#index = undefined;
  }

  get toolsets(): string[] {
    return [...this.#keys.keys()];
  }

  /** All of them as one, by now. */
  index(): KeepIndex {
    const nowMs = this.#parts.clock.wallMs();
    const known = this.#index;
    if (known !== undefined && nowMs >= known.fromMs && nowMs < known.untilMs) return known.index;
    const ends = this.all().map(({ expires }) => parseUtcTime(expires)!);
    const untilMs = Math.min(Number.POSITIVE_INFINITY, ...ends.filter((ms) => ms > nowMs));
    const index = new KeepIndex(this.all(), this.#parts.place, nowMs);
    this.#index = { index, untilMs, fromMs: nowMs };
    return index;
  }

  /** Follows these toolsets from now on, by their owners' keys: all at once, or what is kept would not be for a moment. */
  follow(keys: ReadonlyMap<string, string>): Promise<void> {
    return this.#alone(async () => {
      const known = new Map([...keys].map(([toolset, text]) => [toolset, toolsetKey(text)]));
      const lists = new Map<string, SignedKeepList>();
      for (const toolset of known.keys()) {
        const envelope = this.#envelopes.get(toolset) ?? (await this.#read(toolset));
        const list = envelope === undefined ? undefined : this.#keptList(toolset, envelope, known);
        if (list !== undefined) lists.set(toolset, list);
      }
      this.#keys = known;
      this.#lists = lists;
      this.#index = undefined;
    });
  }

  /** Asks for each toolset's list at each source; answers whether anything is newer. Never rejects, but for the signal. */
  async refresh(sources: readonly KeepAliveSource[], signal?: AbortSignal): Promise<boolean> {
    let isNewer = false;
    for (const toolset of this.#keys.keys()) {
      for (const source of sources) {
        try {
          const envelope = await source.list(toolset, signal === undefined ? {} : { signal });
          if (envelope !== undefined) isNewer = (await this.take(toolset, envelope)) || isNewer;
        } catch (error) {
          signal?.throwIfAborted();
          this.#refuse(toolset, `from ${source.name}: ${(error as Error).message}`);
        }
      }
    }
    return isNewer;
  }

  /**
   * Takes a list in, durably, if it is newer than what is known; answers whether it is.
   * @throws {NotTrustedError} LIST_OUTDATED, LIST_CONFLICT or for its signature; {FormatError} {VersionError}.
   */
  take(toolset: string, envelope: Uint8Array): Promise<boolean> {
    return this.#alone(async () => {
      const list = this.#verified(toolset, envelope, this.#keys);
      const known = this.#envelopes.get(toolset);
      if (!checkNewer(known === undefined ? undefined : bodyOf(known), bodyOf(envelope))) return false;
      await this.#write(toolset, envelope);
      this.#envelopes.set(toolset, envelope);
      this.#lists = new Map(this.#lists).set(toolset, list);
      this.#refused.delete(toolset);
      this.#index = undefined;
      return true;
    });
  }

  #alone<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  #verified(toolset: string, envelope: Uint8Array, keys: ReadonlyMap<string, ToolsetKey>): SignedKeepList {
    const list = trustedKeepList(decodeEnvelope(envelope, keepListForm), keys, verifySignature);
    if (list.toolset === toolset) return list;
    throw new NotTrustedError(`the keep-alive list of ${list.toolset} lies where that of ${toolset} should be`);
  }

  #keptList(toolset: string, envelope: Uint8Array, keys: ReadonlyMap<string, ToolsetKey>): SignedKeepList | undefined {
    try {
      bodyOf(envelope);
      this.#envelopes.set(toolset, envelope);
      return this.#verified(toolset, envelope, keys);
    } catch (error) {
      if (!(error instanceof P2pCacheError)) throw error;
      this.#refuse(toolset, `the one that is kept here: ${error.message}`);
      return undefined;
    }
  }

  /** Told once until another one comes. */
  #refuse(toolset: string, reason: string): void {
    if (this.#refused.get(toolset) === reason) return;
    this.#refused.set(toolset, reason);
    this.#parts.onRefused(toolset, reason);
  }

  /** The newest of the two copies that are whole; whichever is not, or is missing or older, is made anew. */
  async #read(toolset: string): Promise<Uint8Array | undefined> {
    const copies = await Promise.all(this.#pathsOf(toolset).map(readCopy));
    const [first, second] = copies.map((copy) => (copy === "broken" ? undefined : copy));
    const newest = second === undefined || versionOf(first) >= versionOf(second) ? first : second;
    if (newest === undefined) {
      if (copies.includes("broken")) this.#refuse(toolset, "the one that is kept here is damaged, and so is its copy");
    } else if (first === undefined || second === undefined || compareBytes(first, second) !== 0) {
      await this.#write(toolset, newest);
    }
    return newest;
  }

  /** One after the other: a crash leaves at least one of them whole. */
  async #write(toolset: string, envelope: Uint8Array): Promise<void> {
    for (const path of this.#pathsOf(toolset)) await writeDurably(path, sealBytes(envelope));
  }

  #pathsOf(toolset: string): string[] {
    if (!isToolset(toolset)) throw new Error("broken promise: settings name toolsets only");
    return directoriesOf(this.#parts).map((directory) => join(directory, `${toolset}.dsse.json`));
  }
}

function isSame(a: PolicyList, b: PolicyList): boolean {
  const { bytes, ...rest } = a;
  const { bytes: others, ...other } = b;
  return isDeepStrictEqual(rest, other) && compareBytes(bytes, others) === 0;
}

function directoriesOf({ directory }: KeepListsParts): string[] {
  return [directory, `${directory}.copy`];
}

async function readCopy(path: string): Promise<Uint8Array | "broken" | undefined> {
  try {
    const bytes = unsealBytes(await readFile(path));
    return bytes === undefined || bytes.length > keepListBytesMax ? "broken" : bytes;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** -1 for what is none that this program can read. */
function versionOf(envelope: Uint8Array | undefined): number {
  try {
    return envelope === undefined ? -1 : decodeKeepList(bodyOf(envelope)).version;
  } catch (error) {
    if (error instanceof P2pCacheError) return -1;
    throw error;
  }
}

/** @throws {UsageError} for a text that is no key. */
export function toolsetKey(text: string): ToolsetKey {
  const key = parsePublicKey(text);
  return { key, keyid: keyId(key) };
}

function bodyOf(envelope: Uint8Array): Uint8Array {
  return decodeEnvelope(envelope, keepListForm).body;
}
