import { test } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../../node/origins/memory-origin.ts";
import { RetryingOrigin } from "../../../node/origins/with-retry.ts";
import { ChunkCorruptError, UnreachableError } from "../../../protocol/errors.ts";
import { parseChunkHash, parseVariantHash } from "../../../protocol/hash.ts";
import { testRepository } from "../../conformance/origin-conformance.ts";
import { servedRepository } from "../../support/served-folder.ts";
import { failureOf } from "../../support/swarm-member.ts";

const hash = parseChunkHash("ab".repeat(32));
const variant = parseVariantHash("cd".repeat(32));
const limits = { triesMax: 3, waitMsMin: 1, waitMsMax: 50 };
const lost = new UnreachableError("the connection was lost");

testRepository("memory behind retry", async () => {
  const memory = new MemoryRepository("memory");
  return { repository: servedRepository(memory, new RetryingOrigin(memory, Math.random)), close: async () => {} };
});

function retried(failures: readonly Error[]): RetryingOrigin {
  const memory = new MemoryRepository("memory");
  void memory.putChunk(hash, Buffer.from("bytes"));
  for (const failure of failures) memory.failNext(failure);
  return new RetryingOrigin(memory, () => 0.5, limits);
}

test("what fails for a moment is asked again, chunks and records alike", async () => {
  assert.is((await retried([lost, lost]).chunk(hash, 5)).length, 5);
  assert.is(await retried([lost, lost]).latestRecord(variant), undefined);
});

test("after three tries the last failure is the answer", async () => {
  const last = new UnreachableError("still lost");
  assert.is(await failureOf(retried([lost, lost, last]).chunk(hash, 5)), last);
});

test("what is wrong, and what lasts, is not asked again", async () => {
  for (const failure of [
    new ChunkCorruptError("wrong bytes"),
    new UnreachableError("forbidden", { isLasting: true }),
    new UnreachableError("busy", { retryAfterMs: 51 }),
  ]) {
    assert.is(await failureOf(retried([failure]).chunk(hash, 5)), failure);
  }
});

test("an abort ends the waiting, with its reason", async () => {
  const memory = new MemoryRepository("memory");
  memory.failNext(lost);
  const origin = new RetryingOrigin(memory, () => 1, { triesMax: 2, waitMsMin: 60_000, waitMsMax: 60_000 });
  const controller = new AbortController();
  const asked = failureOf(origin.chunk(hash, 5, controller));
  const reason = new Error("enough");
  setImmediate(() => controller.abort(reason));
  assert.is(await asked, reason);
});

test.run();
