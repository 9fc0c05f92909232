import { test } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../../node/origins/memory-origin.ts";
import { UnreachableError } from "../../../protocol/errors.ts";
import { parseChunkHash } from "../../../protocol/hash.ts";
import { testRepository } from "../../conformance/origin-conformance.ts";

testRepository("memory", async () => ({ repository: new MemoryRepository("memory"), close: async () => {} }));

test("an error that is queued fails one call", async () => {
  const repository = new MemoryRepository("memory");
  const error = new UnreachableError("gone");
  repository.failNext(error);
  const hash = parseChunkHash("ab".repeat(32));
  assert.is(await repository.has(hash, 10).catch((reason: unknown) => reason), error);
  assert.is(await repository.has(hash, 10), false);
});

test.run();
