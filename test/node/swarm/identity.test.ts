import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openNodeId, openNodeKey } from "../../../node/swarm/identity.ts";
import { UnusableError } from "../../../protocol/errors.ts";
import { failureOf } from "../../support/swarm-member.ts";

const test = suite<{ state: string }>("the node's key");

test.before.each((context) => {
  process.umask(0);
  context.state = mkdtempSync(join(tmpdir(), "node-key-"));
});
test.after.each(({ state }) => rmSync(state, { recursive: true }));

test("it is made at the first start, for its owner alone, and used again", async ({ state }) => {
  const path = join(state, "new/node.key");
  const key = await openNodeKey(path);
  assert.is(statSync(path).mode & 0o777, 0o600);
  assert.is(statSync(join(state, "new")).mode & 0o777, 0o700);
  assert.ok(key.equals(await openNodeKey(path)));
  assert.equal(readdirSync(join(state, "new")), ["node.key"]);
  assert.match(await openNodeId(join(state, "new")), /^12D3KooW/);
});

test("a file that is no key is refused, and left alone", async ({ state }) => {
  const path = join(state, "node.key");
  for (const bytes of [Buffer.alloc(0), Buffer.from("no key"), Buffer.alloc(1000, 255)]) {
    writeFileSync(path, bytes);
    const failure = await failureOf(openNodeKey(path));
    assert.instance(failure, UnusableError);
    assert.match(failure.message, path);
    assert.ok(readFileSync(path).equals(bytes));
  }
});

test("half a key that a crash left beside it does not stand in the way", async ({ state }) => {
  writeFileSync(join(state, "node.key.new"), "half", { mode: 0o666 });
  await openNodeKey(join(state, "node.key"));
  assert.equal(readdirSync(state), ["node.key"]);
  assert.is(statSync(join(state, "node.key")).mode & 0o777, 0o600);
});

test("what cannot be read or written is said so", async ({ state }) => {
  mkdirSync(join(state, "node.key"));
  assert.instance(await failureOf(openNodeKey(join(state, "node.key"))), UnusableError);
  writeFileSync(join(state, "file"), "");
  assert.instance(await failureOf(openNodeKey(join(state, "file/node.key"))), UnusableError);
  chmodSync(state, 0o500);
  if (process.getuid?.() !== 0) {
    assert.instance(await failureOf(openNodeKey(join(state, "other.key"))), UnusableError);
  }
  chmodSync(state, 0o700);
});

test.run();
