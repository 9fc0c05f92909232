import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import type { SpaceLimits } from "../../node/store/space.ts";
import {
  describe,
  fill,
  itemBytes,
  missingChunks,
  type Payload,
  release,
  removeTree,
  repository,
  variantOf,
  writeSampleTree,
} from "../support/payloads.ts";
import { recordRules, repairRules } from "./repair-rules.ts";
import { type OpenedStore, type Rule, rejects, same, stage } from "./store-rules.ts";

/** A suite of the rules that every payload store keeps. */
export function storeRules(name: string, open: (limits: SpaceLimits) => Promise<OpenedStore>): Test {
  const test = suite(`${name} as a store`);
  let folder = "";
  let payload: Payload;
  test.before(async () => {
    folder = mkdtempSync(join(tmpdir(), "p2pcache-store-"));
    writeSampleTree(join(folder, "tree"));
    payload = await release(join(folder, "tree"));
  });
  test.after(() => removeTree(folder));
  const rule: Rule = (text, check, limits = { maxBytes: 1e12, freeBytesMin: 0 }) => {
    test(text, async () => {
      const opened = await open(limits);
      try {
        await check(opened, payload, join(folder, "tree"));
      } finally {
        await opened.close();
      }
    });
  };
  fetchRules(rule);
  refusalRules(rule);
  resumeRules(rule);
  placeRules(rule);
  adoptionRules(rule);
  servingRules(rule);
  repairRules(rule);
  recordRules(rule);
  return test;
}

function fetchRules(rule: Rule): void {
  rule("what was staged, filled and committed is held, with the bytes that were released", async (opened, payload) => {
    const { store } = opened;
    assert.is(store.holding(payload.hash), undefined);
    const staged = await stage(opened, payload);
    assert.equal(staged.storedSegments(), []);
    assert.is(staged.payload, payload.record.payload);
    await fill(staged, payload);
    assert.equal(staged.storedSegments(), [...payload.record.root.segments.keys()]);
    const result = await store.commit(payload.hash, staged);
    await store.leave(staged);
    const { root } = payload.record;
    const { path: _, ...holding } = store.holding(payload.hash)!;
    assert.equal(holding, {
      variant: payload.hash,
      payload: payload.record.payload,
      text: "studio:foo-1.0.0",
      name: "foo",
      version: "1.0.0",
      bytes: root.bytes,
      files: root.files,
    });
    assert.equal(result, { kind: "placed", holding: store.holding(payload.hash) });
    assert.is(opened.content(payload.hash, "lib/deep/7.py").length, 40_007);
    assert.is(opened.content(payload.hash, "big/two").length, 1_600_000);
  });

  rule("sizes and names of all items are those of the manifest", async (opened, payload) => {
    const staged = await stage(opened, payload);
    const { sizesBytes, stored } = await describe(staged, payload);
    assert.equal(stored, []);
    for (let item = staged.index.segments; item < staged.index.items; item++) {
      assert.is(sizesBytes[item], payload.items.get(staged.hashOf(item))!.length);
    }
    await opened.store.leave(staged);
  });

  rule(
    "of a release in place it is known where each chunk lies, and of another one nothing",
    async (opened, payload) => {
      const chunked = await stage(opened, payload);
      await describe(chunked, payload);
      assert.is(chunked.placeOf(chunked.index.segments), undefined);
      await opened.store.leave(chunked);
      const record = { ...payload.record, inPlaceRoot: "foo/1.0.0" };
      const staged = await opened.store.stage(payload.hash, record, payload.envelope);
      const { sizesBytes } = await describe(staged, payload);
      assert.is(staged.placeOf(0), undefined);
      for (let item = staged.index.segments; item < staged.index.items; item++) {
        const { repository, root, ranges } = await staged.placeOf(item)!();
        assert.equal([repository, root], ["studio", "foo/1.0.0"]);
        assert.is(
          ranges.reduce((sum, range) => sum + range.sizeBytes, 0),
          sizesBytes[item],
        );
      }
      await opened.store.leave(staged);
    },
  );

  rule("items with the same hash come together", async (opened, payload) => {
    const staged = await stage(opened, payload);
    const { copiesOf, sizesBytes } = await describe(staged, payload);
    assert.ok(copiesOf.size > 0);
    for (const [first, copies] of copiesOf) {
      assert.equal(staged.withCopies(first), [first, ...copies]);
      for (const copy of copies) assert.is(staged.hashOf(copy), staged.hashOf(first));
    }
    const [first, copies] = [...copiesOf][0]!;
    await staged.put(first, itemBytes(payload, staged.hashOf(first)));
    const served = (await opened.store.serve(payload.record.payload))!;
    assert.is(served.sizeOf?.(first), sizesBytes[first]);
    const have = served.have();
    assert.ok(have !== "all" && [first, ...copies].every((item) => have.has(item)));
    await opened.store.leave(staged);
  });
}

function refusalRules(rule: Rule): void {
  rule(
    "corrupt bytes and bytes of another length are refused, and nothing of them is kept",
    async (opened, payload) => {
      const staged = await stage(opened, payload);
      const wrong = itemBytes(payload, staged.hashOf(0));
      wrong[5]! ^= 1;
      await rejects(staged.put(0, wrong), "CHUNK_CORRUPT");
      await rejects(staged.put(0, itemBytes(payload, staged.hashOf(0)).slice(1)), "CHUNK_CORRUPT");
      assert.equal(staged.storedSegments(), []);
      const description = await describe(staged, payload);
      for (const item of missingChunks(staged, description)) {
        const bytes = itemBytes(payload, staged.hashOf(item));
        await rejects(staged.put(item, new Uint8Array([...bytes.subarray(0, 9), 0])), "CHUNK_CORRUPT");
        bytes[bytes.length - 1]! ^= 1;
        await rejects(staged.put(item, bytes), "CHUNK_CORRUPT");
      }
      await opened.store.leave(staged);
      const again = await stage(opened, payload);
      assert.equal((await describe(again, payload)).stored, []);
      await opened.store.leave(again);
    },
  );

  rule("a tree that is not complete is not committed", async (opened, payload) => {
    const staged = await stage(opened, payload);
    const [, ...rest] = missingChunks(staged, await describe(staged, payload));
    for (const item of rest) await staged.put(item, itemBytes(payload, staged.hashOf(item)));
    await rejects(opened.store.commit(payload.hash, staged), "TREE_DAMAGED");
    assert.is(opened.store.holding(payload.hash), undefined);
    await opened.store.leave(staged);
  });

  rule(
    "what would pass max_bytes is refused, and leaves nothing behind",
    async (opened, payload) => {
      await rejects(stage(opened, payload), "NO_SPACE");
      assert.is(await opened.store.serve(payload.record.payload), undefined);
      assert.is(opened.store.holding(payload.hash), undefined);
    },
    { maxBytes: 1_000_000, freeBytesMin: 0 },
  );

  rule(
    "what is held counts, and what was left does not stand in the way",
    async (opened, payload) => {
      const staged = await stage(opened, payload);
      await fill(staged, payload);
      await opened.store.leave(staged);
      const again = await stage(opened, payload);
      await fill(again, payload);
      await opened.store.commit(payload.hash, again);
      const other = { ...payload, record: { ...payload.record, variant: variantOf("bar") } };
      await rejects(stage(opened, other), "NO_SPACE");
    },
    { maxBytes: 5_000_000, freeBytesMin: 0 },
  );

  rule("only configured repositories are known", async ({ store }) => {
    assert.is(store.knowsRepository(repository), true);
    assert.is(store.knowsRepository("elsewhere"), false);
  });
}

function resumeRules(rule: Rule): void {
  rule("what was verified before it was left is there at the next try", async (opened, payload) => {
    const staged = await stage(opened, payload);
    const missing = missingChunks(staged, await describe(staged, payload));
    const [first, second] = missing;
    for (const item of [first!, second!]) await staged.put(item, itemBytes(payload, staged.hashOf(item)));
    const expected = [first!, second!].flatMap((item) => staged.withCopies(item));
    await opened.store.leave(staged);
    const again = await stage(opened, payload);
    assert.equal(again.storedSegments(), [...payload.record.root.segments.keys()]);
    const { stored } = await again.describe();
    assert.equal([...stored].sort(), expected.sort());
    await fill(again, payload);
    assert.is((await opened.store.commit(payload.hash, again)).kind, "placed");
  });

  rule("leaving twice, or after the commit, does nothing", async (opened, payload) => {
    const staged = await stage(opened, payload);
    await opened.store.leave(staged);
    await opened.store.leave(staged);
    const again = await stage(opened, payload);
    await fill(again, payload);
    await opened.store.commit(payload.hash, again);
    await opened.store.leave(again);
    assert.ok(opened.store.holding(payload.hash));
  });

  rule("the same item put many times at once is there once, and whole", async (opened, payload) => {
    const staged = await stage(opened, payload);
    for (const item of missingChunks(staged, await describe(staged, payload))) {
      const bytes = Array.from({ length: 6 }, () => itemBytes(payload, staged.hashOf(item)));
      await Promise.all(bytes.map((each) => staged.put(item, each)));
    }
    assert.is((await opened.store.commit(payload.hash, staged)).kind, "placed");
  });

  rule("of an item put twice at once the right bytes count, whichever come first", async (opened, payload) => {
    const staged = await stage(opened, payload);
    for (const item of missingChunks(staged, await describe(staged, payload))) {
      const wrong = itemBytes(payload, staged.hashOf(item)).fill(0);
      const [first, second] = await Promise.allSettled([
        staged.put(item, wrong),
        staged.put(item, itemBytes(payload, staged.hashOf(item))),
      ]);
      assert.equal([first.status, second.status], ["rejected", "fulfilled"]);
    }
    assert.is((await opened.store.commit(payload.hash, staged)).kind, "placed");
  });
}

function placeRules(rule: Rule): void {
  rule("what somebody else has put at a variant's place is seen, and keeps ours out", async (opened, payload) => {
    assert.is(opened.store.foreign(payload.record.variant), undefined);
    const staged = await stage(opened, payload);
    await fill(staged, payload);
    opened.putForeign(payload.record.variant);
    const foreign = opened.store.foreign(payload.record.variant)!;
    assert.is(foreign.state, "cached");
    assert.equal(await opened.store.commit(payload.hash, staged), { kind: "taken", path: foreign.path });
    await opened.store.leave(staged);
    assert.is(opened.store.holding(payload.hash), undefined);
    assert.is(await opened.store.serve(payload.record.payload), undefined);
  });

  rule("what we placed is not foreign", async (opened, payload) => {
    const staged = await stage(opened, payload);
    await fill(staged, payload);
    await opened.store.commit(payload.hash, staged);
    assert.is(opened.store.foreign(payload.record.variant), undefined);
  });
}

function adoptionRules(rule: Rule): void {
  rule("what somebody else has put there is adopted when it is the payload", async (opened, payload, treePath) => {
    const { store } = opened;
    const { hash, record, envelope } = payload;
    opened.putCopy(payload, treePath);
    const copy = await store.adoption.open(hash, record, envelope);
    const { stored } = await describe(copy, payload);
    assert.is(stored.length, copy.index.items - copy.index.segments);
    assert.is(await store.serve(record.payload), undefined);
    const { path } = await store.adoption.adopt(hash, copy);
    store.adoption.leave(copy);
    assert.is(store.holding(hash)?.path, path);
    assert.is(store.foreign(record.variant), undefined);
    assert.equal(store.announced(), [[hash, record.payload]]);
    const served = (await store.serve(record.payload))!;
    for (let item = 0; item < served.index.items; item++) assert.ok((await served.load(item)).length > 0);
  });

  rule("what somebody else has put there is refused when it is something else", async (opened, payload) => {
    const { hash, record, envelope } = payload;
    opened.putForeign(record.variant);
    const copy = await opened.store.adoption.open(hash, record, envelope);
    await rejects(describe(copy, payload), "NOT_ADOPTED");
    opened.store.adoption.leave(copy);
    assert.equal(opened.store.announced(), []);
    assert.is(opened.store.foreign(record.variant)?.state, "cached");
  });
}

function servingRules(rule: Rule): void {
  rule("items are served as soon as they are here, and after the commit as well", async (opened, payload) => {
    const { store } = opened;
    assert.is(await store.serve(payload.record.payload), undefined);
    const staged = await stage(opened, payload);
    const missing = missingChunks(staged, await describe(staged, payload));
    await staged.put(missing[0]!, itemBytes(payload, staged.hashOf(missing[0]!)));
    const served = (await store.serve(payload.record.payload))!;
    assert.ok(same(await served.load(missing[0]!), itemBytes(payload, staged.hashOf(missing[0]!))));
    assert.ok(same(await served.load(0), itemBytes(payload, staged.hashOf(0))));
    await rejects(served.load(missing[1]!), "CHUNK_MISSING");
    await fill(staged, payload);
    await store.commit(payload.hash, staged);
    await store.leave(staged);
    const placed = (await store.serve(payload.record.payload))!;
    assert.is(placed.have(), "all");
    for (let item = 0; item < placed.index.items; item++) {
      assert.ok(same(await placed.load(item), itemBytes(payload, staged.hashOf(item))));
    }
    assert.equal(store.announced(), [[payload.hash, payload.record.payload]]);
  });

  rule(
    "what was damaged is not served, and is known as damaged until it has been placed anew",
    async (opened, payload) => {
      const { store } = opened;
      const staged = await stage(opened, payload);
      await fill(staged, payload);
      await store.commit(payload.hash, staged);
      assert.is(store.isDamaged(payload.hash), false);
      opened.damage(payload.hash);
      const served = (await store.serve(payload.record.payload))!;
      await rejects(served.load(served.index.items - 1), "ITEM_DAMAGED", "TREE_DAMAGED");
      assert.is(store.isDamaged(payload.hash), true);
      assert.ok(store.holding(payload.hash));
      assert.equal(store.announced(), []);
      assert.is(await store.serve(payload.record.payload), undefined);
      const again = await stage(opened, payload);
      await fill(again, payload);
      await store.commit(payload.hash, again);
      assert.is(store.isDamaged(payload.hash), false);
      assert.ok(same(opened.content(payload.hash, "big/one"), opened.content(payload.hash, "big/two")));
    },
  );
}
