import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ItemWorkers } from "../../../node/store/item-workers.ts";
import { StagedPayload } from "../../../node/store/staged-payload.ts";
import {
  describe,
  itemBytes,
  missingChunks,
  type Payload,
  release,
  removeTree,
  writeSampleTree,
} from "../../support/payloads.ts";

interface StagedContext {
  folder: string;
  payload: Payload;
  workers: ItemWorkers;
  staged: StagedPayload;
  /** What storeChunk jobs wait for, by their order. */
  gates: PromiseWithResolvers<void>[];
  wrote: number[];
}

const test = suite<StagedContext>("staged payload");
test.before.each(async (context) => {
  context.folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-staged-"));
  writeSampleTree(join(context.folder, "source"));
  context.payload = await release(join(context.folder, "source"));
  context.workers = ItemWorkers.open(2);
  context.gates = [];
  context.wrote = [];
  const gated = {
    async do(job: { kind: string }, options: object): Promise<unknown> {
      if (job.kind === "storeChunk") {
        const gate = Promise.withResolvers<void>();
        context.gates.push(gate);
        await gate.promise;
      }
      return await context.workers.do(job as never, options);
    },
  };
  context.staged = await StagedPayload.open(context.payload.record, join(context.folder, "staging"), {
    workers: gated as never,
    objectsPath: join(context.folder, "objects"),
    reservation: { wrote: (bytes) => void context.wrote.push(bytes), release: () => undefined },
  });
});
test.after.each(async ({ folder, staged, workers, gates }) => {
  for (const gate of gates) gate.resolve();
  await staged[Symbol.asyncDispose]();
  await workers[Symbol.asyncDispose]();
  removeTree(folder);
});

test("the same bytes are never written by two at a time", async ({ staged, payload, gates }) => {
  const [item, other] = missingChunks(staged, await describe(staged, payload));
  const bytes = () => itemBytes(payload, staged.hashOf(item!));
  const puts = [
    staged.put(item!, bytes()),
    staged.put(item!, bytes()),
    ...staged.withCopies(item!).map((each) => staged.put(each, bytes())),
  ];
  const different = staged.put(other!, itemBytes(payload, staged.hashOf(other!)));
  await setImmediate();
  assert.is(gates.length, 2);
  gates[0]!.resolve();
  gates[1]!.resolve();
  await Promise.all([...puts, different]);
  assert.is(gates.length, 2);
});

test("who comes second writes after all when the first one's bytes were wrong", async ({ staged, payload, gates }) => {
  const [item] = missingChunks(staged, await describe(staged, payload));
  const wrong = itemBytes(payload, staged.hashOf(item!)).fill(7);
  const first = staged.put(item!, wrong).then(
    () => "stored",
    () => "refused",
  );
  const second = staged.put(item!, itemBytes(payload, staged.hashOf(item!)));
  await setImmediate();
  gates[0]!.resolve();
  assert.is(await first, "refused");
  while (gates.length < 2) await setImmediate();
  assert.not(staged.have.has(item!));
  gates[1]!.resolve();
  await second;
  assert.ok(staged.have.has(item!));
});

test("it is left only when what is being written has been; nothing is written afterwards", async ({
  staged,
  payload,
  gates,
}) => {
  const [item, other] = missingChunks(staged, await describe(staged, payload));
  const put = staged.put(item!, itemBytes(payload, staged.hashOf(item!)));
  await setImmediate();
  let isLeft = false;
  const left = staged[Symbol.asyncDispose]().then(() => {
    isLeft = true;
  });
  await setImmediate();
  assert.is(isLeft, false);
  const late = await staged.put(other!, itemBytes(payload, staged.hashOf(other!))).catch(String);
  assert.match(String(late), /left/);
  gates[0]!.resolve();
  await put;
  await left;
  assert.is(gates.length, 1);
});

test("what was written is no longer reserved, every copy of it", async ({ staged, payload, gates, wrote }) => {
  const { copiesOf, sizesBytes } = await describe(staged, payload);
  const [item, copies] = [...copiesOf][0]!;
  const put = staged.put(item, itemBytes(payload, staged.hashOf(item)));
  await setImmediate();
  assert.equal(wrote, []);
  gates[0]!.resolve();
  await put;
  assert.equal(wrote, [sizesBytes[item]! * (1 + copies.length)]);
});

test("a commit that is given up does not wait for the disk", async ({ staged, payload, folder, gates }) => {
  const chunks = missingChunks(staged, await describe(staged, payload));
  const puts = chunks.map((item) => staged.put(item, itemBytes(payload, staged.hashOf(item))));
  for (let i = 0; staged.have.count < staged.index.items; i++) {
    gates[i]?.resolve();
    if (gates[i] === undefined) i--;
    await setImmediate();
  }
  await Promise.all(puts);
  const [before, left, reason] = [process.env.PATH, new AbortController(), new Error("stop")];
  fs.mkdirSync(join(folder, "bin"));
  fs.writeFileSync(join(folder, "bin", "sync"), "#!/bin/sh\ntouch $2.syncing\nexec sleep 20\n", { mode: 0o755 });
  process.env.PATH = `${join(folder, "bin")}:${before}`;
  try {
    const finished = staged.finish(left.signal).catch((error: unknown) => error);
    while (!fs.existsSync(`${staged.treePath}.syncing`)) await setImmediate();
    const startMs = performance.now();
    left.abort(reason);
    assert.is(await finished, reason);
    assert.ok(performance.now() - startMs < 5_000);
  } finally {
    process.env.PATH = before;
  }
});

test.run();
