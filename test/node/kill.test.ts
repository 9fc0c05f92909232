// runs unprivileged
// deadline: 300 s
// alone
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../node/hasher.ts";
import type { NodeClient, Progress } from "../../node/http/client.ts";
import { unsealBytes } from "../../node/store/sealed.ts";
import { Bitmap } from "../../protocol/bitmap.ts";
import { chunkLayouts } from "../../protocol/layout.ts";
import { seededRandom } from "../../protocol/random.ts";
import { decodeEnvelope, decodeRelease, type ReleaseRecord } from "../../protocol/record.ts";
import { decodeSegment } from "../../protocol/segments.ts";
import { type Variant, variantHash } from "../../protocol/variant.ts";
import { kill, Studio } from "../support/studio.ts";
import { listTree, makeTree } from "../support/trees.ts";

const variant: Variant = { kind: "rez", repository: "studio", name: "tools", version: "1.0" };
const rounds = process.env.P2PCACHE_LONG === undefined ? 10 : 20;
/** A fetch of this payload takes about a second. */
const killMsMax = 1_500;
const seed = Number(process.env.P2PCACHE_SEED ?? Date.now() % 1_000_000);

test(`a node that is killed while it fetches answers in 2 s, resumes, and places an equal tree (seed ${seed})`, async () => {
  const random = seededRandom(seed);
  await using studio = await Studio.open();
  const source = join(studio.path, "source", "tools");
  makeTree(source, random, { smallFiles: 400, largeMib: 64 });
  await studio.publish(variant, source);
  const expected = listTree(source);
  const readyMs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const machine = `machine${round}`;
    const config = studio.configure(machine);
    const first = await studio.start(config);
    // By turns at a share of the bytes, and at a moment that may also fall into checking, finishing or placing.
    if (round % 2 === 0) await killMidway(first.client, random(), () => kill(first));
    else await killSoon(first.client, random() * killMsMax, () => kill(first));
    const { verified, total } = verifiedBytes(join(studio.path, machine, "cache"));
    const second = await studio.start(config);
    readyMs.push(second.readyMs);
    assert.ok(second.readyMs < 2_000, `ready after ${second.readyMs} ms, the first time after ${first.readyMs} ms`);
    const started = performance.now();
    await second.client.status();
    assert.ok(performance.now() - started < 2_000, "the status call is answered at once");
    const [result] = await second.client.fetch({ things: [{ kind: "variant", variant }] }, () => undefined, {});
    assert.equal(result?.reason, undefined);
    assert.ok(
      result!.bytes.origin <= total - verified,
      `${result!.bytes.origin} came again of ${total}, ${verified} were verified`,
    );
    assert.equal(listTree(result!.path!), expected);
    assert.equal(await second.client.fsck(), { checked: 1, faults: [] });
    await kill(second, "SIGTERM");
  }
  console.log(`ready after ${Math.round(Math.max(...readyMs))} ms at the latest`);
});

/** Fetches, and kills the node when a share of the bytes has come. */
async function killMidway(client: NodeClient, share: number, end: () => Promise<void>): Promise<void> {
  let killing: Promise<void> | undefined;
  const onProgress = (progress: Progress) => {
    if (progress.bytes.origin >= share * progress.totalBytes) killing ??= end();
  };
  await client.fetch({ things: [{ kind: "variant", variant }] }, onProgress, {}).catch(() => undefined);
  await (killing ?? end());
}

/** Fetches, and kills the node after a while; the fetch may be over by then. */
async function killSoon(client: NodeClient, afterMs: number, end: () => Promise<void>): Promise<void> {
  const killing = sleep(afterMs).then(end);
  await client.fetch({ things: [{ kind: "variant", variant }] }, () => undefined, {}).catch(() => undefined);
  await killing;
}

/** What a dead node had verified and written: bytes of the marked chunks, and of all of them. */
function verifiedBytes(cache: string): { verified: number; total: number } {
  const own = join(cache, ".sys", "p2pcache");
  const [staged] = readdirSync(join(own, "staging"));
  const record = readRecord(join(own, "objects"));
  // It was killed before it had asked for anything, or after all was in place.
  if (record === undefined) return { verified: 0, total: Number.POSITIVE_INFINITY };
  const total = record.root.bytes + record.root.segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  // Its record is kept before anything is staged; what was staged goes once its index file lies beside the tree.
  const placed = existsSync(join(cache, "tools")) ? readdirSync(join(cache, "tools"), { recursive: true }) : [];
  const isPlaced = placed.some((path) => String(path).endsWith("/a.json"));
  if (staged === undefined) return { verified: isPlaced ? total : 0, total };
  const items = record.root.segments.length + record.root.chunks;
  const have = Bitmap.parse(readFileSync(join(own, "staging", staged, "have")), items);
  let item = record.root.segments.length;
  let verified = 0;
  for (const { hash, sizeBytes } of record.root.segments) {
    const path = join(own, "objects", hash.slice(0, 2), hash);
    if (!existsSync(path)) continue;
    verified += sizeBytes;
    for (const { chunk } of chunkLayouts(decodeSegment(readFileSync(path)))) {
      if (have?.has(item++)) verified += chunk.sizeBytes;
    }
  }
  return { verified, total };
}

function readRecord(objects: string): ReleaseRecord | undefined {
  const { hash } = openHashEngine();
  const path = join(objects, variantHash(variant, hash).slice(0, 2), `${variantHash(variant, hash)}.dsse.json`);
  return existsSync(path) ? decodeRelease(decodeEnvelope(unsealBytes(readFileSync(path))!).body, hash) : undefined;
}

test.run();
