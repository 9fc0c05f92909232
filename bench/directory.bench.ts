import { createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { openHashEngine } from "../node/index.ts";
import {
  type Announcement,
  Directory,
  DirectoryReader,
  decodeAnnouncement,
  digestHoldings,
  encodeAnnouncement,
  encodeMessage,
  hashFromBytes,
  type PackedHoldings,
  partsPerAskMax,
  type Random,
  randomBelow,
  seededRandom,
  writeHeads,
  writeParts,
} from "../protocol/index.ts";
import { machineText, median } from "./measure.ts";

// The directory of the largest network: how much memory it takes, and how fast it learns changes. An announcement counts
// with all that it costs: its key is read and its signature verified, it is decoded, applied, and its digest checked.

/** `npm run bench -- directory [--peers 5000] [--holdings 1000] [--variants 50000] [--rounds 5] [--json]` */
export async function run(words: readonly string[]): Promise<void> {
  const option = (name: string, otherwise: number) =>
    words.includes(name) ? Number(words[words.indexOf(name) + 1]) : otherwise;
  const peers = option("--peers", 5_000);
  const world = new World(peers, option("--holdings", 1_000), option("--variants", 50_000));
  const before = await memoryMb();
  const directory = world.fill();
  const after = await memoryMb();
  const rounds: Sample[] = [];
  for (let round = 0; round < option("--rounds", 5); round++) rounds.push(measure(directory, world.changeAll()));
  const joiner = join(directory);
  const perSecond = rounds.map(({ seconds }) => peers / seconds);
  report(words.includes("--json"), {
    name: `${peers} peers x ${option("--holdings", 1_000)} holdings`,
    heapMb: round(after.heapMb - before.heapMb),
    buffersMb: round(after.buffersMb - before.buffersMb),
    rssMb: round(after.rssMb - before.rssMb),
    announcementsPerSecond: round(median(perSecond)),
    spread: round((Math.max(...perSecond) - Math.min(...perSecond)) / median(perSecond), 2),
    cpuMsPerAnnouncement: round(median(rounds.map(({ cpuSeconds }) => (cpuSeconds * 1_000) / peers)), 3),
    verifyMsPerAnnouncement: round(median(rounds.map(({ verifySeconds }) => (verifySeconds * 1_000) / peers)), 3),
    joinerMb: round(joiner.bytes / 1e6, 1),
    joinerCpuSeconds: round(joiner.cpuSeconds, 2),
  });
  if (directory.size !== peers) throw new Error("a directory that forgets");
}

interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** Of the seconds, those for keys and signatures. */
  readonly verifySeconds: number;
}

/** As it comes over the network: a raw key, a signature and what was signed. */
interface Envelope {
  readonly key: Uint8Array;
  readonly signature: Uint8Array;
  readonly payload: Uint8Array;
}

interface Peer {
  readonly name: string;
  readonly key: KeyObject;
  readonly publicBytes: Uint8Array;
  /** Indices into all pairs, ascending. */
  held: Uint32Array;
  sequence: number;
}

/** The peers of a network and what they hold: any of all pairs, as many as each holds. */
class World {
  readonly #random: Random = seededRandom(1);
  readonly #pairs: PackedHoldings;
  readonly #peers: Peer[];
  readonly #hash = openHashEngine().hash;

  constructor(peers: number, holdings: number, variants: number) {
    this.#pairs = sortedPairs(variants, this.#hash);
    this.#peers = Array.from({ length: peers }, (_, index) => {
      const { privateKey, publicKey } = generateKeyPairSync("ed25519");
      const publicBytes = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
      const held = this.#choose(holdings, variants);
      return { name: `12D3KooW${String(index).padStart(44, "x")}`, key: privateKey, publicBytes, held, sequence: 0 };
    });
  }

  /** A directory that knows all peers: heads from envelopes, lists as they come from a neighbour. */
  fill(): Directory {
    const directory = new Directory({ hash: this.#hash, random: this.#random });
    for (const peer of this.#peers) {
      const whole = this.#pack(peer.held);
      learn(directory, this.#seal(peer, this.#announcement(peer, whole)));
      if (directory.learnList(peer.name, whole) !== "learnt") throw new Error("a list that is not learnt");
    }
    return directory;
  }

  /** Each peer has placed one variant and removed another. */
  changeAll(): Envelope[] {
    return this.#peers.map((peer) => {
      const from = digestHoldings(this.#pack(peer.held), this.#hash);
      const goes = randomBelow(peer.held.length, this.#random);
      const removed = this.#pack(peer.held.subarray(goes, goes + 1)).subarray(0, 32);
      const isHeld = new Set(peer.held);
      let comes = 0;
      do comes = randomBelow(this.#pairs.length / 64, this.#random);
      while (isHeld.has(comes));
      peer.held = peer.held.with(goes, comes).sort();
      peer.sequence++;
      const added = this.#pack(Uint32Array.of(comes));
      return this.#seal(peer, {
        ...this.#announcement(peer, this.#pack(peer.held)),
        changes: { from, added, removed },
      });
    });
  }

  #announcement({ name, sequence }: Peer, whole: PackedHoldings): Announcement {
    return {
      ...{ version: 1, network: "studio", peer: name, addresses: ["/ip4/10.0.0.7/tcp/40123"], name: name.slice(-8) },
      ...{ site: "hq", rack: "r1", epoch: 1_790_000_000_000, sequence, lifetimeMs: 1_050_000 },
      ...{ count: whole.length / 64, digest: digestHoldings(whole, this.#hash) },
    };
  }

  #seal({ key, publicBytes }: Peer, announcement: Announcement): Envelope {
    const payload = encodeAnnouncement(announcement);
    return { key: publicBytes, signature: sign(undefined, payload, key), payload };
  }

  #choose(count: number, of: number): Uint32Array {
    const chosen = new Set<number>();
    while (chosen.size < count) chosen.add(randomBelow(of, this.#random));
    return Uint32Array.from(chosen).sort();
  }

  #pack(held: Uint32Array): PackedHoldings {
    const packed = new Uint8Array(held.length * 64);
    for (const [at, index] of held.entries()) packed.set(this.#pairs.subarray(index * 64, index * 64 + 64), at * 64);
    return packed;
  }
}

function measure(directory: Directory, envelopes: readonly Envelope[]): Sample {
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  let verifyMs = 0;
  for (const envelope of envelopes) {
    const verifiedMs = performance.now();
    check(envelope);
    verifyMs += performance.now() - verifiedMs;
    if (learn(directory, envelope) !== "current") throw new Error("a change that is not learnt");
  }
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - startedMs) / 1_000;
  return { seconds, cpuSeconds: (user + system) / 1e6, verifySeconds: verifyMs / 1_000 };
}

/** All heads and lists go to a joiner, and what it takes to write, read and learn them; asks are as large as they may be. */
function join(from: Directory): { bytes: number; cpuSeconds: number } {
  const cpu = process.cpuUsage();
  const to = new Directory({ hash: openHashEngine().hash, random: seededRandom(2) });
  const names = [...from.peers()];
  let bytes = 0;
  const heads = names.map((name) => from.head(name, 1)!);
  for (const { message, body } of writeHeads(heads)) bytes += 8 + encodeMessage(message).length + body.length;
  for (const { signed, remainingMs } of heads) to.learn(signed, remainingMs, 1);
  for (let at = 0; at < names.length; at += partsPerAskMax) {
    const asked = names.slice(at, at + partsPerAskMax);
    const parts = asked.map((name) => ({ head: from.head(name, 1)!, whole: from.holdings(name)! }));
    const reader = new DirectoryReader();
    let next = 0;
    for (const { message, body } of writeParts(parts, seededRandom(3))) {
      bytes += 8 + encodeMessage(message).length + body.length;
      const read = reader.read(message, body);
      if (read.kind === "part" && to.learnList(asked[next++]!, read.whole) !== "learnt")
        throw new Error("a false list");
    }
  }
  const { user, system } = process.cpuUsage(cpu);
  return { bytes, cpuSeconds: (user + system) / 1e6 };
}

function check({ key, signature, payload }: Envelope): void {
  const x = Buffer.from(key).toString("base64url");
  const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  if (!verify(undefined, payload, publicKey, signature)) throw new Error("a signature that is not right");
}

function learn(directory: Directory, { key, signature, payload }: Envelope): string {
  const announcement = decodeAnnouncement(payload);
  if (announcement === undefined) throw new Error("an announcement that cannot be read");
  // What a directory keeps is a buffer of its own, of the size that libp2p's envelope has.
  const envelope = new Uint8Array(Buffer.concat([key, signature, payload, new Uint8Array(16)]));
  return directory.learn({ announcement, envelope }, announcement.lifetimeMs, 0).kind;
}

function sortedPairs(count: number, hash: (bytes: Uint8Array) => Uint8Array): PackedHoldings {
  const texts = Array.from({ length: count }, (_, index) => {
    const [variant, payload] = ["variant", "payload"].map((kind) =>
      hashFromBytes(hash(Buffer.from(`${kind} ${index}`))),
    );
    return `${variant}${payload}`;
  });
  return new Uint8Array(Buffer.from(texts.sort().join(""), "hex"));
}

/** What is in use after everything that can be freed was. */
async function memoryMb(): Promise<{ heapMb: number; buffersMb: number; rssMb: number }> {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  for (let time = 0; time < 3; time++) {
    gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  return { heapMb: heapUsed / 1e6, buffersMb: arrayBuffers / 1e6, rssMb: rss / 1e6 };
}

function report(asJson: boolean, contender: Readonly<Record<string, string | number>>): void {
  const found = { schema: "p2pcache/bench/1", case: "directory", machine: machineText(), contenders: [contender] };
  const lines = Object.entries(contender).map(([name, value]) => `${name.padEnd(24)}  ${value}`);
  process.stdout.write(asJson ? `${JSON.stringify(found)}\n` : `${[found.machine, ...lines].join("\n")}\n`);
}

function round(value: number, digits = 0): number {
  return Number(value.toFixed(digits));
}
