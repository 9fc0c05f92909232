import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

const checkout = join(import.meta.dirname, "..");

test("every test that docs/bad-inputs.md names is there", () => {
  const rows = readFileSync(join(checkout, "docs", "bad-inputs.md"), "utf8").split("\n");
  const named = rows.flatMap((row) => {
    const [, , , file = "", words = ""] = row.split("|").map((cell) => cell.trim());
    const [, path] = /^`(test\/.+\.test\.ts)`$/.exec(file) ?? [];
    return path === undefined ? [] : [{ path, words }];
  });
  assert.ok(named.length > 20);
  for (const { path, words } of named) {
    assert.ok(existsSync(join(checkout, path)), `${path} is there`);
    assert.ok(words !== "" && readFileSync(join(checkout, path), "utf8").includes(words), `${path}: ${words}`);
  }
});

test.run();
