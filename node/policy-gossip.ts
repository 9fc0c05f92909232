import type { PeerName } from "../protocol/directory.ts";
import { policyHeadsMax } from "../protocol/limits.ts";
import type { PolicyHead } from "../protocol/messages.ts";
import { randomBelow } from "../protocol/random.ts";
import type { PolicyWatch } from "./policy-watch.ts";
import type { Admission, PolicyHandlers, Swarm } from "./ports.ts";
import type { RecordTrust } from "./record-trust.ts";
import { metadataName, timestampName } from "./trust/policy-names.ts";
import type { StoredPolicy } from "./trust/policy-state.ts";
import { sha256 } from "./trust/sha256.ts";

export interface PolicyGossipParts {
  readonly watch: Pick<PolicyWatch, "state" | "follow" | "note"> | undefined;
  readonly trust: RecordTrust;
  readonly swarm: () => Swarm | undefined;
  /** Whether members are those whom the policy names. */
  readonly admitsMembersOnly: boolean;
  readonly random: () => number;
  readonly monotonicMs: () => number;
}

const distrustMs = 60_000;
const liarsMax = 1_000;
const reachedMax = 100;

/**
 * Tells neighbours what this node has of the policy, and follows it from whoever has a newer one: nodes that never reach
 * an origin learn of it too. Only roles, versions and hashes are told; files are asked for by their hashes.
 */
export class PolicyGossip implements PolicyHandlers {
  readonly #parts: PolicyGossipParts;
  /** What `heads` and `file` answer from; made anew for each policy. */
  #shown: ShownPolicy | undefined;
  /** Peers of whom a policy is just being followed. */
  readonly #asked = new Set<PeerName>();

  /** Who could be asked while there was no policy by which to let anybody in. */
  readonly #reached = new Set<PeerName>();
  /** Until when peers are not asked whose policy could not be followed, by the clock that never goes back. */
  readonly #liars = new Map<PeerName, number>();

  constructor(parts: PolicyGossipParts) {
    this.#parts = parts;
  }

  admits(peer: PeerName): Admission {
    const { admitsMembersOnly, trust } = this.#parts;
    if (!admitsMembersOnly) return "member";
    if (trust.inForce === undefined) return "policy";
    return trust.inForce.policy.member(peer, trust.nowMs).kind === "member" ? "member" : "stranger";
  }

  heads(): readonly PolicyHead[] {
    return this.#show()?.heads ?? [];
  }

  file(hash: string): Uint8Array | undefined {
    return this.#show()?.files.get(hash);
  }

  heard(peer: PeerName, heads: readonly PolicyHead[]): void {
    const { watch } = this.#parts;
    if (watch === undefined || this.#asked.has(peer) || !this.#isNews(heads)) return;
    if ((this.#liars.get(peer) ?? 0) > this.#parts.monotonicMs()) return;
    this.#asked.add(peer);
    const source = new PeerSource(
      heads,
      async (hash: string, signal: AbortSignal) => await this.#peers()?.file(peer, hash, { signal }),
    );
    void watch
      .follow(peer, (name, signal) => source.read(name, signal))
      .catch((error: unknown) => {
        watch.note(peer, error);
        this.#distrust(peer);
      })
      .finally(() => this.#asked.delete(peer));
  }

  /** Whoever had nothing behind its word is not asked again for a while. */
  #distrust(peer: PeerName): void {
    this.#liars.delete(peer);
    this.#liars.set(peer, this.#parts.monotonicMs() + distrustMs);
    if (this.#liars.size > liarsMax) this.#liars.delete(this.#liars.keys().next().value!);
  }

  reached(peer: PeerName): void {
    if (this.#reached.size < reachedMax) this.#reached.add(peer);
    void this.exchange(peer);
  }

  /** Compares with a peer what both have. Never rejects. */
  async exchange(peer: PeerName): Promise<void> {
    if (this.#parts.watch === undefined) return;
    try {
      this.heard(peer, (await this.#peers()?.exchange(peer)) ?? []);
    } catch {
      // It has gone, or knows nothing of policies: others will tell.
    }
  }

  /** There is a newer policy here: whoever may not be here goes, and all neighbours hear of it. Never rejects. */
  async tell(): Promise<void> {
    this.#peers()?.recheck();
    await Promise.all(this.#neighbours().map((peer) => this.exchange(peer)));
  }

  /** Now and then with anybody, for what was not heard. Never rejects. */
  async compare(): Promise<void> {
    this.#peers()?.recheck(); // Memberships end by themselves, too.
    if (this.#parts.trust.inForce === undefined)
      await Promise.all([...this.#reached].map((peer) => this.exchange(peer)));
    else this.#reached.clear();
    const neighbours = this.#neighbours();
    const peer = neighbours[randomBelow(neighbours.length, this.#parts.random)];
    if (peer !== undefined) await this.exchange(peer);
  }

  #peers(): Swarm["policy"] {
    return this.#parts.swarm()?.policy;
  }

  #neighbours(): PeerName[] {
    return (this.#parts.swarm()?.peers() ?? []).map(({ peer }) => peer);
  }

  /** A newer timestamp, or a root after ours. What a peer says is only worth a look. */
  #isNews(heads: readonly PolicyHead[]): boolean {
    const own = this.heads();
    const newest = (all: readonly PolicyHead[], role: string) =>
      all.reduce((most, head) => (head.role === role ? Math.max(most, head.version) : most), 0);
    return ["timestamp", "root"].some((role) => newest(heads, role) > newest(own, role));
  }

  #show(): ShownPolicy | undefined {
    const stored = this.#parts.watch?.state.stored;
    if (stored === undefined) return undefined;
    if (stored === this.#shown?.stored) return this.#shown;
    const files = new Map<string, Uint8Array>();
    const heads: PolicyHead[] = [];
    for (const [name, bytes] of stored.files) {
      const hash = sha256(bytes);
      files.set(hash, bytes);
      const root = /^(\d{1,9})\.root\.json$/.exec(name)?.[1];
      if (root !== undefined) heads.push({ role: "root", version: Number(root), hash });
      if (name === timestampName) heads.push({ role: "timestamp", version: timestampVersion(stored), hash });
    }
    // The newest roots, where there are many: whoever is behind further asks an origin.
    heads.sort((a, b) => (a.role === b.role ? b.version - a.version : a.role === "timestamp" ? -1 : 1));
    this.#shown = { stored, heads: heads.slice(0, policyHeadsMax), files };
    return this.#shown;
  }
}

/** A peer as a source of files: it is asked by hashes, which the files themselves name one after the other. */
class PeerSource {
  readonly #ask: AskFile;
  /** By file name. */
  readonly #hashes = new Map<string, string>();

  constructor(heads: readonly PolicyHead[], ask: AskFile) {
    this.#ask = ask;
    for (const { role, version, hash } of heads) this.#hashes.set(metadataName(role, version), hash);
  }

  async read(name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const hash = this.#hashes.get(name) ?? /^targets\/(?:[a-z]+\/)?([0-9a-f]{64})\./.exec(name)?.[1];
    if (hash === undefined) return undefined;
    const bytes = await this.#ask(hash, signal);
    if (bytes === undefined || sha256(bytes) !== hash) return undefined;
    this.#learn(bytes);
    return bytes;
  }

  /** A timestamp and a snapshot say what others hash to; what they say is verified by whoever asked for them. */
  #learn(bytes: Uint8Array): void {
    try {
      const { meta } = JSON.parse(Buffer.from(bytes).toString("utf8")).signed as { meta?: Record<string, MetaEntry> };
      for (const [file, { version, hashes }] of Object.entries(meta ?? {})) {
        const hash = hashes?.sha256;
        if (typeof hash !== "string" || typeof version !== "number") continue;
        this.#hashes.set(metadataName(file.replace(/\.json$/, ""), version), hash);
      }
    } catch {
      // Whoever reads it will say what is wrong with it.
    }
  }
}

/** A policy as peers see it. */
interface ShownPolicy {
  readonly stored: StoredPolicy;
  readonly heads: readonly PolicyHead[];
  /** By SHA-256. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

type AskFile = (hash: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;

interface MetaEntry {
  readonly version?: unknown;
  readonly hashes?: { readonly sha256?: unknown };
}

function timestampVersion({ facts }: StoredPolicy): number {
  return facts.roles.find(({ role }) => role === "timestamp")?.version ?? 0;
}
