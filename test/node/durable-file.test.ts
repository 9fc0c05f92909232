// runs unprivileged
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { writeDurably } from "../../node/durable-file.ts";

function inFolder(name: string, check: (folder: string) => Promise<void>): void {
  test(name, async () => {
    const folder = mkdtempSync(join(tmpdir(), "durable-file-"));
    try {
      await check(folder);
    } finally {
      chmodSync(folder, 0o755);
      rmSync(folder, { recursive: true });
    }
  });
}

inFolder("a file is replaced whole, its owner's alone, and nothing lies beside it", async (folder) => {
  const path = join(folder, "new", "newer", "file");
  for (const text of ["one", "another"]) await writeDurably(path, text);
  assert.is(readFileSync(path, "utf8"), "another");
  assert.equal([statSync(path).mode & 0o777, existsSync(`${path}.new`)], [0o600, false]);
});

inFolder("a directory that may only be passed through is no hindrance where nothing new is in it", async (folder) => {
  mkdirSync(join(folder, "ours"));
  chmodSync(folder, 0o111);
  await writeDurably(join(folder, "ours", "file"), "text");
  assert.is(readFileSync(join(folder, "ours", "file"), "utf8"), "text");
});

test.run();
