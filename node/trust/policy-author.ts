import type { Key, Metadata, Root, Targets } from "@tufjs/models";
import { UsageError } from "../../protocol/errors.ts";
import { policyFileBytesMax } from "../../protocol/limits.ts";
import type { PublisherKey } from "../keys.ts";
import type { KeyRing } from "./key-ring.ts";
import { findPending } from "./pending-roles.ts";
import { policyContent } from "./policy-content.ts";
import { rememberPolicy } from "./policy-floor.ts";
import type { PolicyFolder } from "./policy-folder.ts";
import { contentPath, metadataName, targetName, timestampName } from "./policy-names.ts";
import type { PolicyState } from "./policy-state.ts";
import {
  type Delegation,
  delegationsOf,
  firstTargets,
  isPastHalf,
  newSnapshot,
  newTargets,
  newTimestamp,
  renewedRoot,
  withDelegations,
} from "./role-files.ts";
import { sha256 } from "./sha256.ts";
import { fileBytes, signAll, signedAtMs } from "./tuf.ts";
import { checkStaysInForce, openBase } from "./unfinished-root.ts";
import { checkSigned, isOptional, type VerifiedPolicy, verifyPolicy } from "./verify-policy.ts";

export interface AuthorParts {
  readonly folder: PolicyFolder;
  /** What this author has seen: nothing older is built upon. */
  readonly state: PolicyState;
  readonly ring: KeyRing;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/** Which version a role is, and until when; the next one, for as long as roles of its kind are in force, unless given. */
interface RoleTerm {
  readonly version?: number;
  readonly expiresMs?: number;
}

/** What came of a change. */
export interface WrittenPolicy {
  /** Roles that were signed, with their versions. */
  readonly signed: readonly { readonly role: string; readonly version: number }[];
  /** Whether nodes see it: without the online key it waits for the next `trust refresh`. */
  readonly isInForce: boolean;
  /** What was found beside it and left out. */
  readonly warnings: readonly string[];
}

/** Changes a policy: builds upon what it has verified, never upon what merely lies in the origin's folder. */
export class PolicyAuthor {
  readonly base: VerifiedPolicy;
  #parts: AuthorParts;
  readonly #warnings: string[] = [];
  /** By role; those that were signed by their owners and are in no snapshot yet among them. */
  readonly #delegated: Map<string, Metadata<Targets>>;
  readonly #contents: Map<string, Uint8Array>;
  #root: Metadata<Root>;
  #targets: Metadata<Targets>;
  /** What is to be written, the timestamp aside. */
  readonly #files = new Map<string, Uint8Array>();
  readonly #signed = new Map<string, number>();
  /** Names of files that are there, also those that a crash has left before they were in force. */
  #taken: ReadonlySet<string> = new Set();

  private constructor(parts: AuthorParts, base: VerifiedPolicy) {
    this.#parts = parts;
    this.base = base;
    this.#delegated = new Map(base.delegated);
    this.#contents = new Map(base.contents);
    this.#root = base.root;
    this.#targets = base.targets;
  }

  /** @throws {NotTrustedError} POLICY_… when what lies there is not what it should be; {UsageError} without a root to trust. */
  static async open(parts: AuthorParts): Promise<PolicyAuthor> {
    const { folder } = parts;
    const { base, unfinished } = await openBase(folder, parts.state);
    const author = new PolicyAuthor(parts, base);
    author.#taken = new Set(await folder.names());
    for (const { role, metadata, contents } of await findPending(folder, base, author.#warnings)) {
      author.#delegated.set(role, metadata);
      for (const [path, bytes] of contents) author.#contents.set(path, bytes);
      author.#signed.set(role, metadata.signed.version);
    }
    if (unfinished !== undefined) author.replaceRoot(unfinished);
    return author;
  }

  /**
   * Begins a policy with this root, which enough of its keys have signed. Nothing is written before `write`.
   * @throws {UsageError} POLICY_EXISTS; KEY_MISSING.
   */
  static async begin(parts: AuthorParts, root: Metadata<Root>): Promise<PolicyAuthor> {
    const { folder, ring, nowMs } = parts;
    if ((await folder.read(metadataName("root", 1))) !== undefined) {
      throw new UsageError(`there is a policy already: ${folder.path}`, { code: "POLICY_EXISTS" });
    }
    checkSigned(root, "root", root);
    const targets = firstTargets(nowMs);
    signAll(targets, ring.enoughFor("targets", root.signed.roles.targets!));
    const snapshot = newSnapshot(undefined, nowMs, [["targets", targets]]);
    signAll(snapshot, ring.enoughFor("snapshot", root.signed.roles.snapshot!));
    const timestamp = newTimestamp(1, nowMs, snapshot);
    signAll(timestamp, ring.enoughFor("timestamp", root.signed.roles.timestamp!));
    const files = new Map([
      [metadataName("root", 1), fileBytes(root)],
      [metadataName("targets", 1), fileBytes(targets)],
      [metadataName("snapshot", 1), fileBytes(snapshot)],
    ]);
    const all = new Map([...files, [timestampName, fileBytes(timestamp)]]);
    const author = new PolicyAuthor(parts, await verifyPolicy(fileBytes(root), async (name) => all.get(name)));
    for (const [name, bytes] of files) author.#files.set(name, bytes);
    author.#signed.set("root", 1);
    return author;
  }

  get root(): Metadata<Root> {
    return this.#root;
  }

  /** Whether a key signs anything in this policy. */
  uses(keyid: string): boolean {
    const inRoot = Object.values(this.#root.signed.roles).some(({ keyIDs }) => keyIDs.includes(keyid));
    return inRoot || delegationsOf(this.#targets).some(({ keyids }) => keyids.includes(keyid));
  }

  /** Another key was made: signs with it too from now on. */
  useRing(ring: KeyRing): void {
    this.#parts = { ...this.#parts, ring };
  }

  /** Puts a key into another one's place wherever that one signs a delegated role. */
  swapDelegated(oldKeyid: string, newKey: Uint8Array): void {
    const keys = this.#targets.signed.delegations?.keys ?? {};
    for (const { name, keyids, threshold } of delegationsOf(this.#targets)) {
      if (!keyids.includes(oldKeyid)) continue;
      const raw = keyids.map((keyid) => {
        return keyid === oldKeyid ? newKey : rawKey(keys[keyid]);
      });
      this.delegate(name, raw, threshold);
    }
  }

  /** The raw keys that sign what nobody else was given. */
  get ownKeys(): { readonly keys: readonly Uint8Array[]; readonly threshold: number } {
    const { roles, keys } = this.#root.signed;
    const { keyIDs, threshold } = roles.targets!;
    return { keys: keyIDs.map((keyid) => rawKey(keys[keyid])), threshold };
  }

  /** The content of a target, as it is to be; undefined where there is none. */
  content(path: string): Uint8Array | undefined {
    return this.#contents.get(path);
  }

  /** Who may sign a delegated role; undefined where it is not delegated. */
  delegation(role: string): Delegation | undefined {
    return delegationsOf(this.#targets).find(({ name }) => name === role);
  }

  /** The newest version of a delegated role that anybody may have seen, also by keys that count no more; 0 where none was. */
  versionOf(role: string): number {
    const inForce = this.base.snapshot.signed.meta[`${role}.json`]?.version ?? 0;
    return Math.max(inForce, this.#delegated.get(role)?.signed.version ?? 0);
  }

  /** What a role has signed last, in force or on its way; undefined where its keys have signed nothing. */
  signedBy(role: string): Metadata<Targets> | undefined {
    return this.#delegated.get(role);
  }

  /** The raw keys that sign a delegated role, by key id. */
  keysOf(role: string): Map<string, Uint8Array> {
    const keys = this.#targets.signed.delegations?.keys ?? {};
    return new Map(this.delegation(role)?.keyids.map((keyid) => [keyid, rawKey(keys[keyid])]));
  }

  /**
   * Gives a role its content, signed with its keys: all of its targets by path. @throws {UsageError} where the role is not
   * delegated, or its keys are not here.
   */
  put(role: string, contents: ReadonlyMap<string, Uint8Array>, term: RoleTerm = {}): void {
    const delegation = this.delegation(role);
    if (delegation === undefined) {
      throw new UsageError(`nobody may sign ${role} yet`, { hint: `p2pcache trust delegate ${role}` });
    }
    const keys = this.#parts.ring.enoughFor(role, { keyIDs: delegation.keyids, threshold: delegation.threshold });
    const { version = this.#nextVersion(role, this.versionOf(role)), expiresMs } = term;
    const metadata = newTargets(version, this.#parts.nowMs, contents, expiresMs === undefined ? {} : { expiresMs });
    signAll(metadata, keys);
    for (const [path, bytes] of contents) {
      this.#contents.set(path, bytes);
      this.#files.set(targetName(path, sha256(bytes)), bytes);
    }
    this.#delegated.set(role, metadata);
    this.#write(role, metadata);
  }

  /** Gives a role its one target. */
  putContent(role: string, bytes: Uint8Array): void {
    this.put(role, new Map([[contentPath(role), bytes]]));
  }

  /** Lets some keys sign a role; what others had signed counts no more. @throws {UsageError} without the targets key. */
  delegate(role: string, rawKeys: readonly Uint8Array[], threshold: number): void {
    if (threshold < 1 || threshold > rawKeys.length) {
      throw new UsageError(`${rawKeys.length} keys cannot give ${threshold} signatures`);
    }
    const before = this.#delegated.get(role);
    this.#signTargets(withDelegations(this.#targets, this.#parts.nowMs, role, rawKeys, threshold));
    if (before === undefined) return;
    try {
      checkSigned(this.#targets, role, before);
    } catch {
      this.#handOver(role, before);
    }
  }

  /** Puts a new root into force, which may have other keys. @throws {NotTrustedError} unless both roots' keys have signed it. */
  replaceRoot(root: Metadata<Root>): void {
    if (sha256(fileBytes(root)) === sha256(fileBytes(this.#root))) return;
    checkSigned(this.#root, "root", root);
    checkSigned(root, "root", root);
    if (root.signed.version !== this.#root.signed.version + 1) {
      throw new UsageError(
        `the root in force is version ${this.#root.signed.version}: this one has ${root.signed.version}`,
      );
    }
    const before = this.#root.signed.roles.targets!.keyIDs;
    this.#root = root;
    this.#write("root", root);
    try {
      checkSigned(root, "targets", this.#targets);
    } catch {
      this.#signTargets(this.#targets);
    }
    // A key that signs the targets no more has no say in what they delegate either.
    const now = root.signed.roles.targets!.keyIDs;
    const added = now.filter((keyid) => !before.includes(keyid));
    const gone = before.filter((keyid) => !now.includes(keyid));
    for (const [at, keyid] of gone.entries()) {
      const fresh = added[at];
      if (fresh !== undefined) this.swapDelegated(keyid, rawKey(root.signed.keys[fresh]));
    }
  }

  /** Signs anew what has lived more than half of its life, as far as its keys are here. */
  renew(): void {
    const { ring, nowMs } = this.#parts;
    if (isPastHalf(this.#root.signed, "root", nowMs)) {
      const root = renewedRoot(this.#root, nowMs);
      const { keyIDs, threshold } = this.#root.signed.roles.root!;
      if (ring.of(keyIDs).length >= threshold) {
        signAll(root, ring.enoughFor("root", { keyIDs, threshold }));
        this.replaceRoot(root);
      }
    }
    const { keyIDs, threshold } = this.#root.signed.roles.targets!;
    if (isPastHalf(this.#targets.signed, "targets", nowMs) && ring.of(keyIDs).length >= threshold) {
      this.#signTargets(this.#targets);
    }
    for (const [role, metadata] of this.#delegated) {
      const delegation = this.delegation(role);
      // How long a list is in force is its owner's word.
      if (delegation === undefined || isOptional(role) || !isPastHalf(metadata.signed, role, nowMs)) continue;
      if (ring.of(delegation.keyids).length >= delegation.threshold) this.put(role, this.#contentsOf(metadata));
    }
  }

  /**
   * Writes all that has changed: the timestamp last, so that nobody reads of what is not there.
   * @throws {UsageError} CLOCK_BEHIND where this machine's clock would make nodes refuse it; {BusyError} {UnusableError}.
   */
  async write(): Promise<WrittenPolicy> {
    const { folder, ring, nowMs, state } = this.#parts;
    const floorMs = Math.max(signedAtMs(this.base.timestamp) ?? 0, state.stored?.newestSignedMs ?? 0);
    if (nowMs < floorMs) {
      throw new UsageError("this machine's clock is behind the one that signed the policy last", {
        code: "CLOCK_BEHIND",
        hint: `it says ${new Date(nowMs).toISOString()}, and the policy was signed at ${new Date(floorMs).toISOString()}`,
      });
    }
    this.#checkContents();
    const { snapshot: forSnapshot, timestamp: forTimestamp } = this.#root.signed.roles;
    const isOnline = [forSnapshot!, forTimestamp!].every((role) => ring.of(role.keyIDs).length >= role.threshold);
    const online = isOnline
      ? this.#signOnline(ring.enoughFor("snapshot", forSnapshot!), ring.enoughFor("timestamp", forTimestamp!))
      : undefined;
    if (online === undefined) checkStaysInForce(this.base, this.#root);
    // Whoever crashes between a new root and its timestamp goes on from here.
    if (this.#root !== this.base.root) await rememberPolicy(state, this.base, nowMs);
    // The root after all else but the timestamp, since its keys may end what was in force.
    for (const [name, bytes] of [...this.#files].filter(([name]) => !isRoot(name))) await folder.create(name, bytes);
    for (const [name, bytes] of [...this.#files].filter(([name]) => isRoot(name))) await folder.create(name, bytes);
    await folder.sync();
    if (online !== undefined) {
      await folder.replace(timestampName, online);
      // As any node will: what was written must be right.
      const written = await verifyPolicy(fileBytes(this.base.root), (name) => folder.read(name));
      await rememberPolicy(state, written, nowMs);
    }
    const signed = [...this.#signed].map(([role, version]) => ({ role, version }));
    return { signed, isInForce: online !== undefined, warnings: this.#warnings };
  }

  /** What the old keys have signed, signed with the new ones. A list may wait for its owner; nothing else may be void for a moment. */
  #handOver(role: string, before: Metadata<Targets>): void {
    const { keyids, threshold } = this.delegation(role)!;
    const term = isOptional(role) ? { expiresMs: Date.parse(before.signed.expires) } : {};
    if (this.#parts.ring.of(keyids).length >= threshold) this.put(role, this.#contentsOf(before), term);
    else if (isOptional(role)) this.#delegated.delete(role);
    else {
      throw new UsageError(`what ${role} says must be signed by its new keys at once`, {
        code: "KEY_MISSING",
        hint: "name their files with --with FILE, or name one of the old keys too",
      });
    }
  }

  /** No node could read a policy that breaks its own format. @throws {UsageError} */
  #checkContents(): void {
    const large = [...this.#files].find(([, bytes]) => bytes.length > policyFileBytesMax);
    if (large !== undefined)
      throw new UsageError(`${large[0]} would have ${large[1].length} bytes, more than ${policyFileBytesMax}`);
    try {
      policyContent({ contents: this.#contents });
    } catch (cause) {
      throw new UsageError(`nothing was signed: ${(cause as Error).message}`, { cause, hint: "check what was typed" });
    }
  }

  /** Answers the timestamp's bytes. */
  #signOnline(snapshotKeys: readonly PublisherKey[], timestampKeys: readonly PublisherKey[]): Uint8Array {
    const { nowMs } = this.#parts;
    let { snapshot } = this.base;
    if (this.#signed.size > 0 || isPastHalf(snapshot.signed, "snapshot", nowMs)) {
      const version = this.#nextVersion("snapshot", snapshot.signed.version);
      snapshot = newSnapshot(snapshot, nowMs, [["targets", this.#targets], ...this.#delegated], version);
      signAll(snapshot, snapshotKeys);
      this.#write("snapshot", snapshot);
    }
    const timestamp = newTimestamp(this.base.timestamp.signed.version + 1, nowMs, snapshot);
    signAll(timestamp, timestampKeys);
    this.#signed.set("timestamp", timestamp.signed.version);
    return fileBytes(timestamp);
  }

  #signTargets(targets: Metadata<Targets>): void {
    const { ring, nowMs } = this.#parts;
    // One new version a change, however many delegations it is about.
    const version = this.#nextVersion("targets", this.base.targets.signed.version);
    const next = newTargets(version, nowMs, new Map(), { like: targets });
    signAll(next, ring.enoughFor("targets", this.#root.signed.roles.targets!));
    this.#targets = next;
    this.#write("targets", next);
  }

  /** What a crash has left is never written again: the next version is one whose name is free. */
  #nextVersion(role: string, version: number): number {
    let next = version + 1;
    while (this.#taken.has(metadataName(role, next))) next++;
    return next;
  }

  #contentsOf({ signed }: Metadata<Targets>): Map<string, Uint8Array> {
    return new Map(Object.keys(signed.targets).map((path) => [path, this.#contents.get(path)!]));
  }

  #write(role: string, metadata: Parameters<typeof fileBytes>[0]): void {
    const { version } = metadata.signed;
    this.#files.set(metadataName(role, version), fileBytes(metadata));
    this.#signed.set(role, version);
  }
}

function isRoot(name: string): boolean {
  return name.endsWith(".root.json");
}

function rawKey(key: Key | undefined): Uint8Array {
  return new Uint8Array(Buffer.from(key?.keyVal.public ?? "", "hex"));
}
