// mostly waits
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { enterInIndex, rebuildIndex } from "../../../node/origins/folder-index.ts";
import { type IndexEntry, originIndexPath, parseIndex } from "../../../protocol/origin-index.ts";

const entry = (name: string, revision = 0): IndexEntry => ({
  variant: { kind: "rez", repository: "studio", name, version: "1.0" },
  revision,
  isWithdrawn: false,
});

/** What the records say. */
async function* all(...names: string[]): AsyncGenerator<IndexEntry> {
  yield* names.map((name) => entry(name));
}

function inFolder(name: string, check: (path: string) => Promise<void>): void {
  test(name, async () => {
    const path = mkdtempSync(join(tmpdir(), "folder-index-"));
    try {
      await check(path);
    } finally {
      rmSync(path, { recursive: true });
    }
  });
}

function read(path: string): string[] {
  return parseIndex(readFileSync(join(path, originIndexPath))).map(({ variant, revision }) => {
    return `${variant.name} ${revision}`;
  });
}

inFolder("of many publishers at once none loses an entry, and nothing is left beside the index", async (path) => {
  const names = Array.from({ length: 20 }, (_, i) => `foo${i + 10}`);
  await Promise.all(names.map((name) => enterInIndex(path, [entry(name)], () => all())));
  assert.equal(
    read(path),
    names.map((name) => `${name} 0`),
  );
  assert.equal(readdirSync(join(path, "index")), ["releases.jsonl"]);
});

inFolder("a lock that a dead publisher left is broken after a few seconds", async (path) => {
  mkdirSync(join(path, "index"));
  writeFileSync(join(path, "index/.lock"), "");
  await Promise.all(["a", "b"].map((name) => enterInIndex(path, [entry(name)], () => all())));
  assert.equal([read(path), readdirSync(join(path, "index"))], [["a 0", "b 0"], ["releases.jsonl"]]);
});

inFolder("a lock whose holder works for long is not broken, and nobody works beside it", async (path) => {
  const begun = Promise.withResolvers<void>();
  let working = 0;
  async function* slowly(): AsyncGenerator<IndexEntry> {
    assert.is(++working, 1);
    begun.resolve();
    // Longer than a dead one is looked at before it is broken.
    await sleep(4_500);
    working--;
    yield entry("a");
  }
  const first = enterInIndex(path, [entry("b")], slowly);
  await begun.promise;
  await Promise.all([first, enterInIndex(path, [entry("c")], slowly)]);
  assert.equal([read(path), readdirSync(join(path, "index"))], [["a 0", "b 0", "c 0"], ["releases.jsonl"]]);
});

inFolder("who was held for dead does not take away the lock of another one", async (path) => {
  await enterInIndex(path, [entry("a")], async function* () {
    rmSync(join(path, "index/.lock"));
    writeFileSync(join(path, "index/.lock"), "another's");
    yield* all();
  });
  assert.is(readFileSync(join(path, "index/.lock"), "utf8"), "another's");
});

inFolder("a higher revision stays where a slower publisher comes with a lower one", async (path) => {
  await enterInIndex(path, [entry("a", 2)], () => all());
  await enterInIndex(path, [entry("a", 1), entry("b", 1)], () => all());
  assert.equal(read(path), ["a 2", "b 1"]);
});

inFolder("one that is missing, broken or wrong is made anew from the records", async (path) => {
  await enterInIndex(path, [entry("c", 3)], () => all("a", "b"));
  assert.equal(read(path), ["a 0", "b 0", "c 3"]);
  writeFileSync(join(path, originIndexPath), "{}\n");
  await enterInIndex(path, [], () => all("a"));
  assert.equal(read(path), ["a 0"]);
  assert.is(await rebuildIndex(path, () => all("a")), false);
  assert.is(await rebuildIndex(path, () => all("b")), true);
  assert.equal(read(path), ["b 0"]);
});

test.run();
