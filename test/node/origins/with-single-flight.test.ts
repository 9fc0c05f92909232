import { test } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../../node/origins/memory-origin.ts";
import { SingleFlightOrigin } from "../../../node/origins/with-single-flight.ts";
import { UnreachableError } from "../../../protocol/errors.ts";
import { parseChunkHash, parseVariantHash } from "../../../protocol/hash.ts";
import { testRepository } from "../../conformance/origin-conformance.ts";
import { WatchedOrigin } from "../../support/fetch-world.ts";
import { servedRepository } from "../../support/served-folder.ts";
import { failureOf } from "../../support/swarm-member.ts";

const hash = parseChunkHash("ab".repeat(32));
const variant = parseVariantHash("cd".repeat(32));

testRepository("memory behind single flight", async () => {
  const memory = new MemoryRepository("memory");
  return { repository: servedRepository(memory, new SingleFlightOrigin(memory)), close: async () => {} };
});

/** An origin that answers when it is told to. */
function gated() {
  const memory = new MemoryRepository("memory");
  void memory.putChunk(hash, Buffer.from("bytes"));
  void memory.putRecord(variant, 0, Buffer.from("record"));
  const watched = new WatchedOrigin(memory);
  const gate = Promise.withResolvers<void>();
  const signals: AbortSignal[] = [];
  watched.before = (_, signal) => {
    signals.push(signal!);
    return Promise.race([
      gate.promise,
      new Promise<never>((_, reject) => signal!.addEventListener("abort", () => reject(signal!.reason))),
    ]);
  };
  return { origin: new SingleFlightOrigin(watched), watched, gate, signals };
}

test("what several want at the same time is asked for once, and asked again later", async () => {
  const { origin, watched, gate } = gated();
  const chunks = [1, 2, 3].map(() => origin.chunk(hash, 5));
  const records = [1, 2].map(() => origin.latestRecord(variant));
  gate.resolve();
  assert.equal((await Promise.all(chunks)).map(String), Array(3).fill("98,121,116,101,115"));
  assert.is((await Promise.all(records)).length, 2);
  assert.equal([watched.chunks, watched.records], [1, 1]);
  await origin.chunk(hash, 5);
  assert.is(watched.chunks, 2);
});

test("each gets bytes that may be given away", async () => {
  const { origin, gate } = gated();
  const asked = [origin.chunk(hash, 5), origin.chunk(hash, 5)];
  gate.resolve();
  const [first, second] = (await Promise.all(asked)) as [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];
  structuredClone(first, { transfer: [first.buffer] });
  assert.is(Buffer.from(second).toString(), "bytes");
});

test("each gets bytes of its own of a Buffer, too", async () => {
  const inner = {
    name: "buffers",
    latestRecord: async () => undefined,
    chunk: async () => Buffer.from(new ArrayBuffer(5)),
  };
  const origin = new SingleFlightOrigin(inner);
  const [first, second] = await Promise.all([origin.chunk(hash, 5), origin.chunk(hash, 5)]);
  assert.is.not(first.buffer, second.buffer);
});

test("one who leaves does not end it, and all who leave do", async () => {
  const { origin, watched, gate, signals } = gated();
  const [stays, leaves] = [new AbortController(), new AbortController()];
  const kept = origin.chunk(hash, 5, stays);
  const left = failureOf(origin.chunk(hash, 5, leaves));
  const reason = new Error("not any more");
  leaves.abort(reason);
  assert.is(await left, reason);
  assert.is(signals[0]!.aborted, false);
  const alsoLeft = failureOf(kept);
  stays.abort(reason);
  assert.is(await alsoLeft, reason);
  assert.is(signals[0]!.aborted, true);
  // Nobody joins what was ended.
  const later = origin.chunk(hash, 5);
  gate.resolve();
  assert.is((await later).length, 5);
  assert.is(watched.chunks, 2);
});

test("all who wait hear of a failure, and the next one asks anew", async () => {
  const memory = new MemoryRepository("memory");
  void memory.putChunk(hash, Buffer.from("bytes"));
  memory.failNext(new UnreachableError("gone"));
  const origin = new SingleFlightOrigin(memory);
  const failures = await Promise.all([failureOf(origin.chunk(hash, 5)), failureOf(origin.chunk(hash, 5))]);
  assert.equal(
    failures.map(({ message }) => message),
    ["gone", "gone"],
  );
  assert.is((await origin.chunk(hash, 5)).length, 5);
});

test.run();
