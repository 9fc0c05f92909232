import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { NoSpaceError } from "../../../protocol/errors.ts";
import { FailingDisk } from "../../support/failing-disk.ts";
import { fill } from "../../support/payloads.ts";
import { listTree } from "../../support/trees.ts";
import { type StoreContext, stage, storeSuite } from "./store-fixture.ts";

const test = storeSuite("a disk that is full in a commit");
/** More than a commit makes. */
const callsMax = 100;

test("wherever in a commit the disk is full: no space, nothing half done, and the next try fetches nothing", async (context) => {
  const { open, payload, cachePath, source } = context;
  const store = await open();
  using disk = new FailingDisk();
  const failed: string[] = [];
  for (let count = 0; ; count++) {
    assert.ok(count < callsMax, "a commit ends");
    const staged = await stage(store, payload);
    const fetched = await fill(staged, payload);
    if (count > 0) assert.equal(fetched, [], `after ${failed.at(-1)}`);
    disk.failAfter(count);
    const error = await store.commit(payload.hash, staged).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    disk.calm();
    await store.leave(staged);
    if (disk.failed === undefined) {
      assert.is(error, undefined);
      break;
    }
    failed.push(disk.failed);
    assert.instance(error, NoSpaceError, disk.failed);
    assert.equal(shownIn(cachePath), [], disk.failed);
    assert.equal(store.holdings(), [], disk.failed);
  }
  assert.ok(failed.length >= 5, failed.join("\n"));
  for (const part of [".claim-", "intent.json", "renameSync", ".json.tmp"]) {
    assert.ok(
      failed.some((call) => call.includes(part)),
      `${part} was among ${failed.join("\n")}`,
    );
  }
  const [holding] = store.holdings();
  assert.equal(listTree(holding!.path), listTree(source));
  assert.equal(await store.check(), { checked: 1, faults: [] });
});

/** Index files and payloads: what Rez would see. */
function shownIn(cachePath: StoreContext["cachePath"]): string[] {
  const names = fs.readdirSync(cachePath, { recursive: true }) as string[];
  return names.filter((name) => !name.startsWith(".sys") && fs.statSync(join(cachePath, name)).isFile());
}

test.run();
