import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  CacheOwner,
  clearDeadDrafts,
  type OwnerData,
  ownerData,
  ownerIsDead,
  readOwner,
  tryClaim,
} from "../../../node/store/owner.ts";
import { BusyError } from "../../../protocol/errors.ts";

const test = suite<{ folder: string }>("owner");
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "p2pcache-owner-"));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

/** Data of a process that has ended: its pid is free, or another's. */
function deadOwner(): OwnerData {
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  return { ...ownerData(), pid, started: "1" };
}

test("a process that runs is not dead", () => {
  assert.not.ok(ownerIsDead(ownerData()));
  assert.not.ok(ownerIsDead({ ...ownerData(), host: "elsewhere" }), "one boot is one machine, whatever its name is");
});

test("a process is dead when it has gone or its pid is another's now", () => {
  assert.ok(ownerIsDead(deadOwner()));
  assert.ok(ownerIsDead({ ...ownerData(), started: "1" }));
});

test("a process of an earlier boot of this host is dead, one of another host may live", () => {
  assert.ok(ownerIsDead({ ...ownerData(), bootId: "0" }));
  assert.not.ok(ownerIsDead({ ...deadOwner(), bootId: "0", host: "elsewhere" }));
});

test("a pid of another namespace proves nothing", () => {
  assert.not.ok(ownerIsDead({ ...deadOwner(), pidNamespace: "pid:[1]" }));
});

test("a process of another user is alive though it cannot be signalled", () => {
  const parent = process.getuid?.() === 0 ? process.pid : 1;
  assert.not.ok(ownerIsDead({ ...ownerData(), pid: parent, started: "" }));
});

test("an owner keeps others out until it lets go", ({ folder }) => {
  const path = join(folder, "owner");
  const owner = CacheOwner.claim(path);
  assert.throws(
    () => CacheOwner.claim(path),
    (error: unknown) =>
      error instanceof BusyError &&
      error.code === "CACHE_IN_USE" &&
      error.exit === 8 &&
      error.message.includes(`process ${process.pid} on ${hostname()}`),
  );
  owner.release();
  owner.release();
  CacheOwner.claim(path).release();
  assert.equal(readdirSync(folder), []);
});

test("a dead owner's file is replaced", ({ folder }) => {
  const path = join(folder, "owner");
  writeFileSync(path, JSON.stringify(deadOwner()));
  using _owner = CacheOwner.claim(path);
  assert.is(readOwner(path)?.pid, process.pid);
  assert.equal(readdirSync(folder), ["owner"]);
});

test("a file that is not ours, or empty, is never replaced", ({ folder }) => {
  const path = join(folder, "owner");
  for (const text of ["", "{}", "not JSON", JSON.stringify({ ...deadOwner(), program: "other" })]) {
    writeFileSync(path, text);
    assert.throws(() => CacheOwner.claim(path), /somebody unknown/);
    assert.is(readFileSync(path, "utf8"), text);
  }
});

test("releasing leaves a file alone that is another's by now", ({ folder }) => {
  const path = join(folder, "owner");
  const owner = CacheOwner.claim(path);
  const other = JSON.stringify({ ...ownerData(), pid: 1 });
  writeFileSync(path, other);
  owner.release();
  assert.is(readFileSync(path, "utf8"), other);
});

test("a dead claim whose breaker died too is broken all the same", ({ folder }) => {
  const path = join(folder, "owner");
  const dead = deadOwner();
  writeFileSync(path, JSON.stringify(dead));
  writeFileSync(join(folder, `.break-${dead.nonce}`), JSON.stringify(deadOwner()));
  assert.ok(tryClaim(path, folder));
  assert.equal(readdirSync(folder), ["owner"]);
});

test("a dead claim that another is breaking just now is left to it", ({ folder }) => {
  const path = join(folder, "owner");
  const dead = deadOwner();
  writeFileSync(path, JSON.stringify(dead));
  writeFileSync(join(folder, `.break-${dead.nonce}`), JSON.stringify(ownerData()));
  assert.is(tryClaim(path, folder), undefined);
  assert.is(readOwner(path)?.nonce, dead.nonce);
});

test("of many processes that find a dead owner at once, one gets it", async ({ folder }) => {
  const path = join(folder, "owner");
  const code = `
    const { tryClaim } = await import(${JSON.stringify(new URL("../../../node/store/owner.ts", import.meta.url).href)});
    process.stdout.write("ready\\n");
    await new Promise((resolve) => process.stdin.once("data", resolve));
    process.stdout.write(tryClaim(${JSON.stringify(path)}, ${JSON.stringify(folder)}) ? "mine\\n" : "no\\n");
    await new Promise((resolve) => process.stdin.once("end", resolve));
  `;
  writeFileSync(path, JSON.stringify(deadOwner()));
  const children = Array.from({ length: 6 }, () =>
    spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: ["pipe", "pipe", "inherit"] }),
  );
  await Promise.all(children.map((child) => once(child.stdout, "data")));
  const answers = children.map((child) => once(child.stdout, "data"));
  for (const child of children) child.stdin.write("go\n");
  const texts = (await Promise.all(answers)).map(([data]) => String(data).trim());
  const exits = children.map((child) => once(child, "exit"));
  for (const child of children) child.stdin.end();
  await Promise.all(exits);
  assert.equal(texts.sort(), ["mine", "no", "no", "no", "no", "no"]);
  assert.equal(readdirSync(folder), ["owner"]);
});

test("drafts of dead processes are cleared, those of live ones stay", ({ folder }) => {
  writeFileSync(join(folder, ".claim-dead"), JSON.stringify(deadOwner()));
  writeFileSync(join(folder, ".claim-live"), JSON.stringify(ownerData()));
  clearDeadDrafts(folder);
  assert.not.ok(existsSync(join(folder, ".claim-dead")));
  assert.ok(existsSync(join(folder, ".claim-live")));
});

test.run();
