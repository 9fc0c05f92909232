import type { Holding as Held } from "../protocol/announcement.ts";
import type { Bitmap } from "../protocol/bitmap.ts";
import type { Directory, PeerName } from "../protocol/directory.ts";
import type { ChunkHash, PayloadId, VariantHash } from "../protocol/hash.ts";
import type { ItemIndex, ManifestRoot } from "../protocol/manifest.ts";
import type { PolicyHead } from "../protocol/messages.ts";
import type { ClassRates, TrafficClass } from "../protocol/politeness.ts";
import type { ReleaseRecord } from "../protocol/record.ts";
import type { RegisterAnswer, RegisterQuestion } from "../protocol/register-messages.ts";
import type { SeenMember } from "../protocol/registrars.ts";
import type { Fault } from "../protocol/standing.ts";
import type { ChunkDescription } from "../protocol/transfer.ts";
import type { Variant } from "../protocol/variant.ts";

/** Time, as the shell reads it. */
export interface Clock {
  /** Milliseconds that never go back; their zero means nothing. */
  monotonicMs(): number;
  /** Milliseconds since 1970, which an admin may set wrongly. */
  wallMs(): number;
}

/** What every wait may be given: an abort rejects with the signal's reason. */
export interface WaitOptions {
  readonly signal?: AbortSignal;
}

/** An item of a release that lies in its repository as it was published (`publish --in-place`). */
export interface ItemPlace {
  /** The logical id of the repository. */
  readonly repository: string;
  /** The tree's root, relative to the repository's mount. */
  readonly root: string;
  /** Whose bytes, one after the other, are the item. Paths are relative to the root. */
  readonly ranges: readonly { readonly path: string; readonly offsetBytes: number; readonly sizeBytes: number }[];
}

export interface ChunkOptions extends WaitOptions {
  /** Where the item lies as it was published: asked by origins that can read there, once they lack it otherwise. */
  readonly place?: () => Promise<ItemPlace>;
  /** Told the release's root on this machine, before bytes that were read there are answered. */
  readonly onInPlace?: (root: string) => void;
}

/** The central server, read: the last resort. Nothing that it answers is verified yet. */
export interface Origin {
  readonly name: string;
  /**
   * The envelope of the highest revision of a variant's release record; undefined where there is none.
   * @throws {UnreachableError} when the origin cannot be asked; {FormatError} when what lies there is too large.
   */
  latestRecord(variant: VariantHash, options?: WaitOptions): Promise<Uint8Array | undefined>;
  /**
   * A chunk or a manifest segment of `sizeBytes` bytes, not verified.
   * @throws {ChunkMissingError} when it has none by that name; {ChunkCorruptError} when it has another size;
   * {ReleaseChangedError} when it would be read in place, and is not there any more as it was; {UnreachableError} when
   * it cannot be asked.
   */
  chunk(hash: ChunkHash, sizeBytes: number, options?: ChunkOptions): Promise<Uint8Array>;
  /**
   * Which variants it has, as `origin-index` reads it: a hint of those that cannot be listed otherwise. Undefined where
   * there is none. @throws {UnreachableError} when the origin cannot be asked; {FormatError} when it is too large.
   */
  index?(options?: WaitOptions): Promise<Uint8Array | undefined>;
  /**
   * A file of the network's policy by its name, as `timestamp.json` or `targets/<sha256>.deny.json`; undefined where there
   * is none. @throws {UnreachableError} when the origin cannot be asked; {FormatError} when it is too large.
   */
  policyFile?(name: string, options?: WaitOptions): Promise<Uint8Array | undefined>;
}

/** Where keep-alive lists come from. Nothing that it answers is verified yet. */
export interface KeepAliveSource {
  readonly name: string;
  /** The envelope of a toolset's newest list; undefined where there is none. @throws {UnreachableError} */
  list(toolset: string, options?: WaitOptions): Promise<Uint8Array | undefined>;
}

/** An origin that this machine may publish to. Nothing in it is ever changed or removed, but for what was cut short. */
export interface Repository extends Origin {
  /** Whether a chunk or segment lies there with just so many bytes: what was cut short is missing. */
  has(hash: ChunkHash, sizeBytes: number): Promise<boolean>;
  /**
   * As `has`, and makes what lies there young, so that the origin's garbage collection leaves it alone for now;
   * false also where that is forbidden: then `putChunk` writes it anew.
   */
  reuse(hash: ChunkHash, sizeBytes: number): Promise<boolean>;
  /** Writes a chunk or segment durably; one of that size that is there already is left alone, another is replaced. */
  putChunk(hash: ChunkHash, bytes: Uint8Array): Promise<void>;
  /**
   * Writes a record exclusively, once all that it names has been written.
   * @throws {NotTrustedError} (code RECORD_CONFLICT) when that revision exists with other bytes.
   */
  putRecord(variant: VariantHash, revision: number, envelope: Uint8Array): Promise<void>;
}

/** A variant that lies whole in the cache. */
export interface Holding {
  readonly variant: VariantHash;
  readonly payload: PayloadId;
  /** `studio:foo-1.0.0[0]`, for people. */
  readonly text: string;
  readonly name: string;
  readonly version: string | undefined;
  /** Where its tree lies. */
  readonly path: string;
  readonly bytes: number;
  readonly files: number;
}

/** A payload of which this machine has all or some items, for peers. */
export interface ServedPayload {
  readonly index: ItemIndex;
  readonly root: ManifestRoot;
  /** What is here now. */
  have(): Bitmap | "all";
  /** What a chunk measures, in bytes; undefined, or no such function, where that is not known without reading. */
  sizeOf?(item: number): number | undefined;
  /** An item's bytes, read back and verified. @throws {ChunkMissingError} or {TreeDamagedError} when it is not here. */
  load(item: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** A peer that has been let in and has said hello. */
export interface PeerFacts {
  /** Its libp2p peer id, as text. */
  readonly peer: PeerName;
  readonly name: string;
  readonly site: string;
  readonly rack: string;
  /** Multiaddrs of its open connections. */
  readonly addresses: readonly string[];
  /** By how much its clock was ahead of ours when it came; undefined where it did not say. */
  readonly clockAheadMs?: number | undefined;
}

/** Whether a peer is let in; "policy": this node cannot tell yet, so it may ask that peer for the policy, and no more. */
export type Admission = "member" | "policy" | "stranger";

/** What a node says and hears of the network's policy. */
export interface PolicyHandlers {
  admits(peer: PeerName): Admission;
  /** What it has. */
  heads(): readonly PolicyHead[];
  /** A file by its SHA-256, for any peer: whoever gets it checks it. */
  file(hash: string): Uint8Array | undefined;
  /** A peer says what it has; nothing of it is verified. */
  heard(peer: PeerName, heads: readonly PolicyHead[]): void;
  /** A peer can be asked for the policy, and for nothing else. */
  reached(peer: PeerName): void;
}

/** Peers as sources of the policy. */
export interface PolicyPeers {
  /** Says what this node has, and answers what the peer has. @throws {UnreachableError} */
  exchange(peer: PeerName, options?: WaitOptions): Promise<readonly PolicyHead[]>;
  /** Not verified; undefined when the peer has none. @throws {UnreachableError} */
  file(peer: PeerName, hash: string, options?: WaitOptions): Promise<Uint8Array | undefined>;
  /** Whoever may not be here any more goes, and who had to wait is let in. */
  recheck(): void;
}

/** What this node answers to its peers. */
export interface SwarmHandlers {
  /** Absent: everybody is let in, and nothing is said of a policy. */
  readonly policy?: PolicyHandlers;
  /** The envelope of a variant's record, for a peer that asks. */
  record(variant: VariantHash): Promise<Uint8Array | undefined>;
  /** What of a payload is here. */
  serve(payload: PayloadId): Promise<ServedPayload | undefined>;
  /** What this node announces: all that it holds whole. */
  whole(): readonly Held[];
  /** A later epoch was announced than this node started with: the next start must have a later one yet. */
  raiseEpoch(epoch: number): Promise<void>;
  /** A peer has been let in, or has gone. */
  peerReady(peer: PeerName): void;
  peerLeft(peer: PeerName): void;
  /** A peer holds these as well; "many": too many to name, the directory has them. */
  learnt(peer: PeerName, added: readonly Held[] | "many"): void;
  /** A peer asked for a payload, so it will soon have parts of it. */
  wanted(peer: PeerName, payload: PayloadId): void;
  /** An item was sent to a peer. */
  gave(peer: PeerName, bytes: number): void;
  /** A peer did what no honest one does; without a fault it is only worth a line in the log. */
  misbehaved(peer: PeerName, fault: Fault | undefined, reason: string): void;
  /** A wanter's question to this node as a registrar; undefined where there is no answer to it. */
  registered(peer: PeerName, payload: PayloadId, question: RegisterQuestion): RegisterAnswer | undefined;
  /** Whether a peer that joins a payload is let in as a link; one that is not is told that nothing is here. */
  mayJoin(peer: PeerName, payload: PayloadId): boolean;
  /** The last join of a payload by a peer that was let in has ended, by its word or with its stream; not by `part`. */
  unjoined(peer: PeerName, payload: PayloadId): void;
  /** What is known of the others' items of a payload that is on its way in. */
  demand(payload: PayloadId): Demand | undefined;
}

/** How much the others have of a payload. */
export interface Demand {
  /** How many peers are known to have an item. */
  copies(item: number): number;
  /** How many items a peer is known to have; undefined for one of which nothing is known. */
  heldBy(peer: PeerName): number | undefined;
}

/** What comes of one payload that was joined at one peer. */
export interface JoinListener {
  /** The peer has got these as well. */
  have(items: readonly number[]): void;
  piece(item: number, bytes: Uint8Array<ArrayBuffer>): void;
  busy(items: readonly number[], retryAfterMs: number): void;
  /** The peer does not have these; an empty list: nothing of the payload any more. */
  gone(items: readonly number[]): void;
  /** The stream has ended: nothing more will come. */
  ended(): void;
}

/** A payload joined at one peer. */
export interface Join {
  readonly have: Bitmap | "all";
  request(items: readonly number[]): void;
  cancel(items: readonly number[]): void;
  leave(): void;
}

/** Who holds what, for those who only ask. */
export type DirectoryView = Pick<
  Directory,
  "size" | "peers" | "copies" | "labels" | "holders" | "holds" | "holdersOf" | "variantsOf" | "holdingsOf"
>;

/** How neighbours are found on the local network, for `doctor`. */
export interface DiscoveryState {
  /** Interfaces on which neighbours are looked for. */
  readonly interfaces: readonly string[];
  /** Members whose answers were heard. */
  readonly heard: number;
  /** What went wrong on the way, each of them once. */
  readonly faults: readonly string[];
}

/** The other members, reached over the network. Peers that were not let in do not appear. */
export interface Swarm extends AsyncDisposable {
  readonly id: PeerName;
  /** What members announced, of whom most are not connected. */
  readonly directory: DirectoryView;
  /** Absent where nobody can be asked for it. */
  readonly policy?: PolicyPeers;
  /** Multiaddrs at which it listens. */
  addresses(): readonly string[];
  peers(): readonly PeerFacts[];
  /**
   * Resolves once each configured peer was let in, or could not be reached at first, and whoever is on the local network
   * had time to answer; never rejects.
   */
  settled(): Promise<void>;
  /** This node holds something else than before: says so to all. */
  announce(): void;
  /** Undefined where nobody is looked for on the local network. */
  discovery(): DiscoveryState | undefined;
  /** A variant's record from a peer, dialled if it is not here; undefined when it has none. @throws {UnreachableError} */
  record(peer: PeerName, variant: VariantHash, options?: WaitOptions): Promise<Uint8Array | undefined>;
  /** Asks a peer, dialled if it is not here, what it has of a payload; undefined when nothing. @throws {UnreachableError} */
  join(
    peer: PeerName,
    payload: PayloadId,
    items: number,
    listener: JoinListener,
    traffic?: TrafficClass,
  ): Promise<Join | undefined>;
  /**
   * Asks a peer for items of a payload of at most `smallPayloadBytesMax` bytes without joining it first: the first request
   * is one message, its pieces the answer. The peer is dialled if it is not here. What it lacks is `gone`, nothing of the
   * payload is `gone` without items, and a peer that cannot be reached has `ended`.
   */
  take(peer: PeerName, payload: PayloadId, items: number, listener: JoinListener, traffic?: TrafficClass): Join;
  /** Lets go of a peer that joined a payload here: to it that is `gone` without items. It may join again. */
  part(peer: PeerName, payload: PayloadId): void;
  /**
   * Asks a peer, dialled if it is not here, as a registrar. @throws {UnreachableError} when it cannot be reached, gives no
   * answer within five seconds, or has none.
   */
  register(peer: PeerName, payload: PayloadId, question: RegisterQuestion): Promise<RegisterAnswer>;
  /** Everybody that is known, this node included; `upSinceMs` is in milliseconds since 1970, by each one's own clock. */
  members(): Iterable<SeenMember>;
  /** Peers are sent so much from now on, class by class. */
  setRates(up: ClassRates): void;
  /** Peers are told about items that have been stored since. */
  stored(payload: PayloadId, items: readonly number[]): void;
}

/** A payload on its way in, as the fetcher sees it. */
export interface StagedTree {
  readonly payload: PayloadId;
  readonly root: ManifestRoot;
  readonly index: ItemIndex;
  /** The manifest segments that are here already. */
  storedSegments(): readonly number[];
  /** All segments are here: checks the manifest and says what the chunks are. @throws {FormatError} {NotAdoptedError} */
  describe(signal?: AbortSignal): Promise<ChunkDescription>;
  /** The name under which an origin has an item. */
  hashOf(item: number): ChunkHash;
  /** The items that come with an item, itself first. */
  withCopies(item: number): readonly number[];
  /** Says where a chunk lies as it was published; undefined for segments, and where nothing was published in place. */
  placeOf(item: number): (() => Promise<ItemPlace>) | undefined;
  /** Verifies and writes an item; the buffer is given away. @throws {ChunkCorruptError} {NoSpaceError} */
  put(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
}

/** Where a payload went, or what lies at its place already. */
export type CommitResult =
  | { readonly kind: "placed"; readonly holding: Holding }
  /** Rez, or somebody else, has put this variant there; our tree was thrown away. */
  | { readonly kind: "taken"; readonly path: string };

/** Copies that Rez has made itself, and that may be taken for ours. */
export interface AdoptionStore {
  /**
   * Rez's own copy as something on its way in: its segments come from outside, and `describe` compares it, so that all
   * of its chunks are stored. @throws {NotAdoptedError} when it cannot be adopted whatever is in it.
   */
  open(hash: VariantHash, record: ReleaseRecord, envelope: Uint8Array): Promise<StagedTree>;
  /** A copy that was found right is held from now on. @throws {NotAdoptedError} {BusyError} REZ_LOCK_HELD */
  adopt(hash: VariantHash, copy: StagedTree, signal?: AbortSignal): Promise<Holding>;
  leave(copy: StagedTree): void;
}

/** Held trees that were found damaged, and are made right where they lie. */
export interface RepairStore {
  /**
   * A damaged tree as something on its way in: what is right of it is stored already. Undefined where it cannot be made
   * right where it lies: then it is brought in anew as a whole.
   */
  open(hash: VariantHash, record: ReleaseRecord): Promise<StagedTree | undefined>;
  /**
   * What has come takes the place of what was wrong; all else is as it was.
   * @throws {TreeDamagedError} when it is not right even now; {BusyError} when it was replaced meanwhile.
   */
  mend(hash: VariantHash, tree: StagedTree, signal?: AbortSignal): Promise<Holding>;
  leave(tree: StagedTree): Promise<void>;
}

/** The store, as the fetcher sees it. */
export interface FetchStore {
  holding(variant: VariantHash): Holding | undefined;
  isDamaged(variant: VariantHash): boolean;
  /** Whether this machine knows where a repository is mounted. */
  knowsRepository(repository: string): boolean;
  readonly adoption: AdoptionStore;
  readonly repairs: RepairStore;
  /** What somebody else has put at a variant's place in Rez's cache. */
  foreign(variant: Variant): { readonly path: string; readonly state: string } | undefined;
  /**
   * Keeps the newest record of a variant, durably, whether or not its tree is here.
   * @throws {NotTrustedError} RECORD_OUTDATED when a higher revision is kept already (P6).
   */
  noteRecord(hash: VariantHash, envelope: Uint8Array): Promise<void>;
  /**
   * Removes a held variant from the disk; nothing where none is. `onHidden` is called once nobody is served from it, and
   * before anything goes. @throws {BusyError} with all as it was.
   */
  remove(variant: VariantHash, options?: WaitOptions & { readonly onHidden?: () => void }): Promise<unknown>;
  /** @throws {NoSpaceError} before anything is written; {NotTrustedError} RECORD_OUTDATED. */
  stage(hash: VariantHash, record: ReleaseRecord, envelope: Uint8Array, signal?: AbortSignal): Promise<StagedTree>;
  /** Puts a complete tree where Rez finds it. @throws {BusyError} with the tree kept in staging. */
  commit(hash: VariantHash, staged: StagedTree, signal?: AbortSignal): Promise<CommitResult>;
  /** Ends work on a staged payload; what was verified stays for the next try. */
  leave(staged: StagedTree): Promise<void>;
}
