import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

const checkout = join(import.meta.dirname, "..");

test("every bad input has a test that is there, and that runs as an unprivileged user or says why not", () => {
  const lines = readFileSync(join(checkout, "docs", "bad-inputs.md"), "utf8").split("\n");
  const rows = lines.filter((line) => line.startsWith("| ")).slice(2);
  assert.ok(rows.length > 60);
  for (const row of rows) {
    const [, , , file = "", words = "", as = ""] = row.split("|").map((cell) => cell.trim());
    const [, path = ""] = /^`(test\/.+\.test\.ts)`$/.exec(file) ?? [];
    assert.ok(path !== "" && existsSync(join(checkout, path)), `a test is named, and there: ${row}`);
    const text = readFileSync(join(checkout, path), "utf8");
    assert.ok(words !== "" && text.includes(words), `${path}: ${words}`);
    const expected = text.startsWith("// runs unprivileged\n") ? [""] : ["nobody", "runner", "root"];
    assert.ok(expected.includes(as), `${path} as ${as}`);
    if (as === "nobody") assert.match(text, "own-disk.ts", path);
    if (as === "runner") assert.match(path, /^test\/node\/store\//);
    if (as === "root") assert.match(path, /^test\/long\//);
  }
});

test.run();
