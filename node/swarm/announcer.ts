import type { Announcement, Head, Holding, PeerLabels, Signed } from "../../protocol/announcement.ts";
import { Directory, type PeerName } from "../../protocol/directory.ts";
import { Gossip, type GossipAction, type GossipEvent } from "../../protocol/gossip.ts";
import type { Hasher } from "../../protocol/hash.ts";
import type { DirectoryAsk, EnvelopedHead } from "../../protocol/messages.ts";
import type { SeenMember } from "../../protocol/registrars.ts";
import { Turns } from "../turns.ts";
import { Allowance } from "./allowance.ts";
import { answerDirectory, askDirectory, isSilence } from "./directory-stream.ts";
import type { Frames } from "./frames.ts";
import type { Verdict } from "./gossip-mesh.ts";

export interface AnnouncerParts {
  readonly network: string;
  readonly self: PeerName;
  readonly hash: Hasher;
  /** Later than any epoch that this node ever announced. */
  readonly epoch: number;
  /** Writes down that a later epoch was announced. */
  readonly raiseEpoch: (epoch: number) => Promise<void>;
  readonly seal: (announcement: Announcement) => Promise<Signed>;
  /** Undefined for what its peer has not signed. */
  readonly open: (envelope: Uint8Array) => Promise<Signed | undefined>;
  /** To all neighbours; never rejects. */
  readonly publish: (envelope: Uint8Array) => Promise<void>;
  readonly stream: (peer: PeerName) => Promise<Frames>;
  readonly labels: () => PeerLabels;
  /** All that this node holds whole. */
  readonly whole: () => readonly Holding[];
  readonly onLearnt: (peer: PeerName, added: readonly Holding[] | "many") => void;
  /** A neighbour did what no honest one does. */
  readonly onFault: (peer: PeerName, fault: "silent" | "broken", reason: string) => void;
  /** More or fewer members are known than before, whatever they hold. */
  readonly onMembers: () => void;
}

/** Drives a `Gossip`: says what this node holds, and learns what the others do. */
export class Announcer {
  readonly directory: Directory;
  readonly #parts: AnnouncerParts;
  readonly #gossip: Gossip;
  readonly #answers = new Turns(answersAtOnce);
  /** What each member may announce: gossip carries changes of one second in one announcement. */
  readonly #authors = new Map<PeerName, Allowance>();
  readonly #events: GossipEvent[] = [];
  readonly #stopped = new AbortController();
  #announcing: Promise<void> = Promise.resolve();
  #waking: NodeJS.Timeout | undefined;
  #isDraining = false;
  #members = 0;
  /** As it was announced last. */
  #epoch: number;

  constructor(parts: AnnouncerParts) {
    const { network, self, hash } = parts;
    const random = Math.random;
    this.#parts = parts;
    this.#epoch = parts.epoch;
    this.directory = new Directory({ hash, random });
    this.#gossip = new Gossip({ network, self, directory: this.directory, hash, random });
  }

  start(): void {
    const { epoch, labels, whole } = this.#parts;
    this.#post({ kind: "started", epoch, labels: labels(), whole: whole() });
  }

  /** This node holds something else than before. */
  changed(): void {
    this.#post({ kind: "holdings", whole: this.#parts.whole() });
  }

  /** This node is somewhere else than before. */
  moved(): void {
    this.#post({ kind: "labels", labels: this.#parts.labels() });
  }

  joined(peer: PeerName): void {
    this.#post({ kind: "joined", peer });
  }

  left(peer: PeerName): void {
    this.#post({ kind: "left", peer });
  }

  /** Everybody that is known, this node first, and since when each is up. */
  *members(): Generator<SeenMember> {
    yield { name: this.#parts.self, upSinceMs: this.#epoch };
    for (const name of this.directory.peers()) yield { name, upSinceMs: this.directory.epochOf(name)! };
  }

  /** An announcement came by gossip. Answers whether it is sent on. */
  async judge(from: PeerName, envelope: Uint8Array): Promise<Verdict> {
    const signed = await this.#parts.open(envelope);
    if (signed === undefined || signed.announcement.network !== this.#parts.network) {
      this.#parts.onFault(from, "broken", "it sends on what nobody signed");
      return "reject";
    }
    const { peer, epoch, sequence } = signed.announcement;
    const known = this.directory.head(peer, performance.now())?.signed.announcement;
    const isNew = known === undefined || epoch > known.epoch || (epoch === known.epoch && sequence > known.sequence);
    if (!isNew || this.#stopped.signal.aborted || !this.#mayAnnounce(peer)) return "ignore";
    this.#post({ kind: "received", from, signed });
    return "accept";
  }

  /** Answers a neighbour's question about the directory; never rejects. */
  async answer(frames: Frames): Promise<void> {
    const { signal } = this.#stopped;
    const source = {
      heads: (known: Uint8Array) => this.#gossip.answerHeads(known, performance.now()),
      parts: (peers: readonly PeerName[]) => this.#gossip.answerParts(peers, performance.now()),
    };
    try {
      const end = await this.#answers.take(AbortSignal.any([signal, AbortSignal.timeout(turnMs)]));
      await answerDirectory(frames, source, signal).finally(end);
    } catch (error) {
      frames.abort(error as Error);
    }
  }

  /** Says goodbye, and nothing more after that. */
  async stop(): Promise<void> {
    this.#post({ kind: "stopping" });
    clearTimeout(this.#waking);
    this.#stopped.abort(new Error("the node stops"));
    await this.#announcing;
  }

  #post(event: GossipEvent): void {
    if (this.#stopped.signal.aborted) return;
    this.#events.push(event);
    if (this.#isDraining) return;
    this.#isDraining = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        for (const action of this.#gossip.step(next, performance.now())) this.#perform(action);
      }
    } finally {
      this.#isDraining = false;
    }
    if (this.directory.size === this.#members) return;
    this.#members = this.directory.size;
    this.#parts.onMembers();
  }

  #perform(action: GossipAction): void {
    switch (action.kind) {
      case "announce":
        // One after the other: they are ordered.
        this.#announcing = this.#announcing.then(() => this.#announce(action.announcement));
        break;
      case "askHeads":
        void this.#ask(action.peer, { kind: "want-heads" }, action.known);
        break;
      case "askParts":
        void this.#ask(action.peer, { kind: "want-parts", peers: action.parts }, new Uint8Array(0));
        break;
      case "learnt":
        this.#parts.onLearnt(action.peer, action.added);
        break;
      case "lied":
        this.#parts.onFault(action.peer, "broken", "it gives a list of holdings that is nobody's");
        break;
      case "forgot":
        this.#authors.delete(action.peer);
        break;
      case "wakeAt":
        clearTimeout(this.#waking);
        this.#waking = setTimeout(
          () => this.#post({ kind: "woke" }),
          Math.min(timerMsMax, Math.max(0, Math.ceil(action.atMs - performance.now()))),
        ).unref();
    }
  }

  /** Never rejects: what cannot be written down or signed is not announced. */
  async #announce(announcement: Announcement): Promise<void> {
    try {
      if (announcement.epoch > this.#epoch) await this.#parts.raiseEpoch(announcement.epoch);
      this.#epoch = announcement.epoch;
      const signed = await this.#parts.seal(announcement);
      this.#post({ kind: "signed", signed });
      await this.#parts.publish(signed.envelope);
    } catch {
      // The next heartbeat tries again.
    }
  }

  /** Never rejects. */
  async #ask(peer: PeerName, ask: DirectoryAsk, body: Uint8Array): Promise<void> {
    let frames: Frames | undefined;
    try {
      frames = await this.#parts.stream(peer);
      await askDirectory(frames, ask, body, {
        heads: async (heads) => this.#post({ kind: "heads", from: peer, heads: await this.#openAll(heads) }),
        part: async (enveloped, whole) => {
          const [head] = await this.#openAll([enveloped]);
          if (head !== undefined) this.#post({ kind: "part", from: peer, head, whole });
        },
      });
      this.#post({ kind: "answered", from: peer });
    } catch (error) {
      frames?.abort(error as Error);
      if (isSilence(error)) this.#parts.onFault(peer, "silent", error.message);
      this.#post({ kind: "failed", from: peer });
    }
  }

  /** Those that their peers have signed. */
  async #openAll(heads: readonly EnvelopedHead[]): Promise<Head[]> {
    const opened: Head[] = [];
    for (const { envelope, remainingMs } of heads) {
      const signed = await this.#parts.open(envelope);
      if (signed?.announcement.network === this.#parts.network) opened.push({ signed, remainingMs });
    }
    return opened;
  }

  #mayAnnounce(peer: PeerName): boolean {
    const author = this.#authors.get(peer) ?? new Allowance(announcementsBurst, announcementsPerSecond);
    this.#authors.set(peer, author);
    if (this.#authors.size > authorsMax) this.#authors.delete(this.#authors.keys().next().value!);
    return author.take(1, performance.now());
  }
}

/** Neighbours that are answered at a time: an answer is up to 20 MB. */
const answersAtOnce = 4;
const turnMs = 20_000;
const announcementsBurst = 10;
const announcementsPerSecond = 1;
const authorsMax = 20_000;
const timerMsMax = 2 ** 31 - 1;
