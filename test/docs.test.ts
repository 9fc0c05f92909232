import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { settingsReference } from "../node/index.ts";
import { logReference } from "../node/log-events.ts";

const docs = join(import.meta.dirname, "../docs");

test("the configuration reference in the docs is the one that the program prints", () => {
  const page = readFileSync(join(docs, "operating.md"), "utf8");
  const written = /<!-- config reference -->\n(.*?)\n?<!-- end -->/s.exec(page)?.[1];
  assert.is(written, settingsReference().lines.join("\n"), "paste what `p2pcache config reference` prints");
});

test("the table of log events in the docs is the one in the program", () => {
  const page = readFileSync(join(docs, "log-events.md"), "utf8");
  const written = /<!-- log events -->\n(.*?)\n?<!-- end -->/s.exec(page)?.[1];
  assert.is(written, logReference().join("\n"), "it is what logReference() of node/log-events.ts answers");
});

test.run();
