import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { settingsReference } from "../node/index.ts";

const docs = join(import.meta.dirname, "../docs");

test("the configuration reference in the docs is the one that the program prints", () => {
  const page = readFileSync(join(docs, "operating.md"), "utf8");
  const written = /<!-- config reference -->\n(.*?)\n?<!-- end -->/s.exec(page)?.[1];
  assert.is(written, settingsReference().lines.join("\n"), "paste what `p2pcache config reference` prints");
});

test.run();
