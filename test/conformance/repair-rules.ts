import { join } from "node:path";
import * as assert from "uvu/assert";
import { encodeEnvelope, encodeRecord } from "../../protocol/record.ts";
import { describe, fill, itemBytes, missingChunks, type Payload, release } from "../support/payloads.ts";
import { type Rule, rejects, same, stage } from "./store-rules.ts";

export function repairRules(rule: Rule): void {
  rule(
    "a damaged tree is made right by what is wrong of it, and nothing else is asked for",
    async (opened, payload) => {
      const { store } = opened;
      const staged = await stage(opened, payload);
      const all = await fill(staged, payload);
      await store.commit(payload.hash, staged);
      opened.damage(payload.hash);
      const served = (await store.serve(payload.record.payload))!;
      await rejects(served.load(served.index.items - 1), "ITEM_DAMAGED", "TREE_DAMAGED");
      const tree = (await store.repairs.open(payload.hash, payload.record))!;
      const missing = missingChunks(tree, await describe(tree, payload));
      assert.ok(missing.length > 0 && missing.every((item) => all.includes(item)));
      for (const item of missing) await tree.put(item, itemBytes(payload, tree.hashOf(item)));
      const { path } = await store.repairs.mend(payload.hash, tree);
      await store.repairs.leave(tree);
      assert.is(store.holding(payload.hash)?.path, path);
      assert.is(store.isDamaged(payload.hash), false);
      assert.equal(store.announced(), [[payload.hash, payload.record.payload]]);
      const again = (await store.serve(payload.record.payload))!;
      for (let item = 0; item < again.index.items; item++) {
        assert.ok(same(await again.load(item), itemBytes(payload, tree.hashOf(item))));
      }
    },
  );

  rule("a repair that lacks an item ends nothing", async (opened, payload) => {
    const { store } = opened;
    const staged = await stage(opened, payload);
    await fill(staged, payload);
    await store.commit(payload.hash, staged);
    opened.damage(payload.hash);
    const served = (await store.serve(payload.record.payload))!;
    await rejects(served.load(served.index.items - 1), "ITEM_DAMAGED", "TREE_DAMAGED");
    const tree = (await store.repairs.open(payload.hash, payload.record))!;
    await describe(tree, payload);
    await rejects(store.repairs.mend(payload.hash, tree), "TREE_DAMAGED");
    await store.repairs.leave(tree);
    assert.is(store.isDamaged(payload.hash), true);
    assert.is(await store.serve(payload.record.payload), undefined);
  });

  rule("what is not held is not repaired", async ({ store }, payload) => {
    assert.is(await store.repairs.open(payload.hash, payload.record), undefined);
  });
}

/** Trust never goes backwards (P6). */
export function recordRules(rule: Rule): void {
  rule("an older record than the one that is known is refused, by a commit too", async (opened, payload) => {
    const { store } = opened;
    const staged = await stage(opened, payload);
    await fill(staged, payload);
    const newer = revised(payload, 1);
    await store.noteRecord(payload.hash, newer);
    await rejects(store.noteRecord(payload.hash, payload.envelope), "RECORD_OUTDATED");
    await rejects(store.commit(payload.hash, staged), "RECORD_OUTDATED");
    await opened.store.leave(staged);
    await rejects(stage(opened, payload), "RECORD_OUTDATED");
    assert.is(store.holding(payload.hash), undefined);
  });

  rule("two records of one revision that name different trees are a conflict", async (opened, payload, treePath) => {
    const other = await release(join(treePath, "lib"));
    assert.is(other.hash, payload.hash);
    await opened.store.noteRecord(payload.hash, payload.envelope);
    await rejects(opened.store.noteRecord(payload.hash, other.envelope), "RECORD_CONFLICT");
  });
}

/** The envelope of a later record of the same tree. */
function revised({ record }: Payload, revision: number): Uint8Array {
  const body = encodeRecord({ ...record, revision, supersedes: record.payload }, record.root);
  return encodeEnvelope({ body, signatures: [] });
}
