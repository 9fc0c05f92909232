// runs unprivileged
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../../node/hasher.ts";
import { importTree } from "../../../node/payloads/importer.ts";
import type { P2pCacheError } from "../../../protocol/errors.ts";
import { MIB } from "../../../protocol/limits.ts";
import { noise } from "../../support/noise.ts";
import { failureOf } from "../../support/swarm-member.ts";

const sinks = {
  engine: openHashEngine(),
  onChunk: async (): Promise<void> => {},
  onSegment: async (): Promise<void> => {},
};

/** What may happen to a tree while it is read, and what is named then. */
const changes: readonly [string, (tree: string) => void, RegExp][] = [
  ["a file that was read is written in place", (tree) => writeFileSync(join(tree, "a/first"), "X"), /"a\/first"/],
  [
    "a file that was read is written and its time set back",
    (tree) => {
      const { mtime } = statSync(join(tree, "a/first"));
      writeFileSync(join(tree, "a/first"), "X");
      utimesSync(join(tree, "a/first"), mtime, mtime);
    },
    /"a\/first"/,
  ],
  ["a file that was read is replaced", (tree) => replace(join(tree, "a/first"), "x"), /a/],
  ["a file that was read may be run now", (tree) => chmodSync(join(tree, "a/first"), 0o755), /"a\/first"/],
  ["a file goes", (tree) => rmSync(join(tree, "a/first")), /a/],
  ["a file goes that is still to be read", (tree) => rmSync(join(tree, "z")), /./],
  ["a file comes", (tree) => write(tree, "a/late", "x"), /a/],
  ["a file moves", (tree) => renameSync(join(tree, "a/first"), join(tree, "b/first")), /./],
  ["a directory comes", (tree) => mkdirSync(join(tree, "b/new")), /b/],
  ["a link leads elsewhere", (tree) => relink(join(tree, "link"), "z"), /./],
];

for (const [what, change, named] of changes) {
  inTree(`while a tree is read, ${what}: it is refused`, async (tree) => {
    write(tree, "a/first", "x");
    write(tree, "b/large", noise(1, 9 * MIB));
    symlinkSync("b", join(tree, "link"));
    write(tree, "z", "z");
    let isDone = false;
    const onChunk = async (): Promise<void> => {
      if (!isDone) change(tree);
      isDone = true;
    };
    const error = await refusal(importTree(tree, { ...sinks, onChunk }));
    assert.equal([error.code, error.exit], ["TREE_CHANGED", 4]);
    assert.match(error.message, named);
  });
}

inTree("a tree of too many entries is refused before any of it is read", async (tree) => {
  for (let i = 0; i < 20; i++) write(tree, `d${i}/file`, "x");
  let taken = 0;
  const onChunk = async (): Promise<void> => void taken++;
  const error = await refusal(importTree(tree, { ...sinks, onChunk, entriesMax: 39 }));
  assert.equal([error.code, taken], ["UNPUBLISHABLE", 0]);
  assert.match(error.message, /has more than 39 entries$/);
  await importTree(tree, { ...sinks, onChunk, entriesMax: 40 });
});

test.run();

async function refusal(work: Promise<unknown>): Promise<P2pCacheError> {
  return (await failureOf(work)) as P2pCacheError;
}

/** By another file of the same size and time. */
function replace(path: string, content: string): void {
  const { mtime } = statSync(path);
  writeFileSync(`${path}.new`, content);
  utimesSync(`${path}.new`, mtime, mtime);
  renameSync(`${path}.new`, path);
}

function relink(path: string, target: string): void {
  symlinkSync(target, `${path}.new`);
  renameSync(`${path}.new`, path);
}

function write(tree: string, path: string, content: string | Uint8Array): void {
  mkdirSync(join(tree, path, ".."), { recursive: true });
  writeFileSync(join(tree, path), content);
}

function inTree(name: string, check: (tree: string) => Promise<void>): void {
  test(name, async () => {
    const directory = mkdtempSync(join(tmpdir(), "changing-"));
    process.umask(0o022);
    try {
      const tree = join(directory, "tree");
      mkdirSync(tree);
      await check(tree);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}
