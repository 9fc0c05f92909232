// runs unprivileged
// deadline: 120 s
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../node/hasher.ts";
import { importTree } from "../../node/payloads/importer.ts";
import { entriesMax } from "../../protocol/limits.ts";
import { failureOf } from "../support/swarm-member.ts";

test("a tree of 1,000,000 entries is read, and one of 1,000,001 is refused before any of it is", async () => {
  const directory = mkdtempSync(join(tmpdir(), "million-"));
  try {
    process.umask(0o022);
    const tree = join(directory, "tree");
    mkdirSync(tree);
    // 1,000 directories of 999 names each: links to few files, since a file may have 65,000 names (ext4(5)).
    for (let i = 0; i < 1000; i++) {
      const path = join(tree, `d${i}`);
      mkdirSync(path);
      if (i % 50 === 0) writeFileSync(join(directory, `file${i / 50}`), `${i}`);
      for (let j = 0; j < 999; j++) linkSync(join(directory, `file${Math.floor(i / 50)}`), join(path, `f${j}`));
    }
    let taken = 0;
    const take = async (): Promise<void> => void taken++;
    const options = { engine: openHashEngine(), onChunk: take, onSegment: take };
    const { root } = await importTree(tree, options);
    assert.is(root.entries, entriesMax);
    taken = 0;
    writeFileSync(join(tree, "one-more"), "x");
    const error = await failureOf(importTree(tree, options));
    assert.equal([error.code, taken], ["UNPUBLISHABLE", 0]);
    assert.match(error.message, /has more than 1000000 entries$/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test.run();
