import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

const checkout = join(import.meta.dirname, "..");

test("every threat has a test that is there", () => {
  const page = readFileSync(join(checkout, "docs", "trust.md"), "utf8");
  const table = page.slice(page.indexOf("\n## Threats"));
  const rows = table
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .slice(2);
  assert.ok(rows.length >= 25);
  for (const row of rows) {
    const [, , , , file = "", words = ""] = row.split("|").map((cell) => cell.trim());
    const [, path = ""] = /^`(test\/.+\.test\.ts)`$/.exec(file) ?? [];
    assert.ok(path !== "" && existsSync(join(checkout, path)), row);
    assert.ok(words !== "" && readFileSync(join(checkout, path), "utf8").includes(words), row);
  }
});

test.run();
