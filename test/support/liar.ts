import { generateKeyPair } from "@libp2p/crypto/keys";
import { openHashEngine } from "../../node/hasher.ts";
import { loadNetworkKey, networkPrologue } from "../../node/keys.ts";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import type { ServedPayload } from "../../node/ports.ts";
import { Libp2pSwarm } from "../../node/swarm/libp2p-swarm.ts";
import { ChunkMissingError } from "../../protocol/errors.ts";
import { type ChunkHash, hashFromBytes, parseVariantHash } from "../../protocol/hash.ts";
import { chunkLayouts } from "../../protocol/layout.ts";
import { ItemIndex } from "../../protocol/manifest.ts";
import { decodeEnvelope, decodeRelease, encodeEnvelope } from "../../protocol/record.ts";
import { decodeSegment } from "../../protocol/segments.ts";

/** What a liar is told, as JSON in its first argument. */
export interface LiarOrders {
  readonly lie: Lie;
  readonly originPath: string;
  readonly keyFile: string;
  readonly variant: string;
  /** Whose record it gives in place of the variant's own. */
  readonly otherVariant?: string;
}

export type Lie =
  /** Every byte of every chunk, or of segments as well, is another. */
  | "wrong chunks"
  | "wrong segments"
  /** Pieces are too short and too long in turn. */
  | "wrong sizes"
  /** It claims all, and has nothing; or never answers. */
  | "gone"
  | "silence"
  /** It serves rightly, and its records are false. */
  | "record of another variant"
  | "unsigned record"
  | "garbage record"
  | "none";

// A member of the network whose swarm is real and whose word is worth nothing: run as a process of its own.
const orders = JSON.parse(process.argv[2]!) as LiarOrders;
const engine = openHashEngine();
const origin = await FolderRepository.open({ name: "origin", path: orders.originPath, network: "test" });
const variant = parseVariantHash(orders.variant);
const envelope = (await origin.latestRecord(variant))!;
const record = decodeRelease(decodeEnvelope(envelope).body, engine.hash);
const items = await itemsOf();
const served: ServedPayload = { index: new ItemIndex(record.root), root: record.root, have: () => "all", load };
const swarm = await Libp2pSwarm.open(
  {
    key: await generateKeyPair("Ed25519"),
    prologue: networkPrologue(await loadNetworkKey(orders.keyFile), "test"),
    hello: { network: "test", name: orders.lie, site: "", rack: "" },
    listen: ["/ip4/127.0.0.1/tcp/0"],
    bootstrap: [],
    hash: engine.hash,
    epoch: Date.now(),
    announceLoopback: true,
  },
  {
    record: async () => await falseRecord(),
    serve: async (payload) => (payload === record.payload ? served : undefined),
    whole: () => [[variant, record.payload]],
    raiseEpoch: async () => undefined,
    peerReady: () => undefined,
    peerLeft: () => undefined,
    learnt: () => undefined,
    wanted: () => undefined,
    gave: () => undefined,
    registered: () => undefined,
    mayJoin: () => true,
    unjoined: () => undefined,
    demand: () => undefined,
  },
);
process.stdout.write(`${swarm.addresses()[0]!}\n`);

/** The name and size of every item. */
async function itemsOf(): Promise<{ readonly hash: ChunkHash; readonly sizeBytes: number }[]> {
  const segments = record.root.segments.map(({ hash, sizeBytes }) => ({ hash, sizeBytes }));
  const chunks: { hash: ChunkHash; sizeBytes: number }[] = [];
  for (const { hash, sizeBytes } of segments) {
    for (const { chunk } of chunkLayouts(decodeSegment(await origin.chunk(hash, sizeBytes)))) {
      chunks.push({ hash: hashFromBytes<"chunk">(chunk.digest), sizeBytes: chunk.sizeBytes });
    }
  }
  return [...segments, ...chunks];
}

async function load(item: number): Promise<Uint8Array<ArrayBuffer>> {
  const { hash, sizeBytes } = items[item]!;
  const bytes = new Uint8Array(await origin.chunk(hash, sizeBytes));
  const isSegment = item < record.root.segments.length;
  switch (orders.lie) {
    case "wrong chunks":
      return isSegment ? bytes : bytes.map((byte) => byte ^ 1);
    case "wrong segments":
      return bytes.map((byte) => byte ^ 1);
    case "wrong sizes":
      return item % 2 === 0 ? bytes.slice(1) : new Uint8Array([...bytes, 0]);
    case "gone":
      throw new ChunkMissingError("it never was here");
    case "silence":
      return await new Promise(() => undefined);
    default:
      return bytes;
  }
}

async function falseRecord(): Promise<Uint8Array | undefined> {
  switch (orders.lie) {
    case "record of another variant":
      return await origin.latestRecord(parseVariantHash(orders.otherVariant!));
    case "unsigned record":
      return encodeEnvelope({ body: decodeEnvelope(envelope).body, signatures: [] });
    case "garbage record":
      return new Uint8Array(1_000);
    default:
      return envelope;
  }
}
