// deadline: 120 s
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { CheckLine } from "../../node/index.ts";
import { Machine } from "../support/command-line.ts";
import { asNobody, giveToNobody, mayMount, type OwnDisk, onOwnDisks } from "../support/own-disk.ts";

const test = suite("doctor and mounts");

/** A rule about a cache that lies on a disk of its own, looked at by an unprivileged user: its one failure. */
function finds(
  what: string,
  disk: Omit<OwnDisk, "path">,
  expected: { readonly check: string; readonly message: RegExp; readonly hint: RegExp },
): void {
  test(`${what}: a failure that says what to do`, async () => {
    await using machine = await Machine.open();
    const path = join(machine.path, "cache");
    mkdirSync(path, { recursive: true, mode: 0o755 });
    giveToNobody(machine.studio.path);
    assertFound(await failuresOf(machine, onOwnDisks([{ path, ...disk }])), expected);
  });
}

/** But for the origin, to which nothing has been published. */
async function failuresOf(machine: Machine, prefix: readonly string[]): Promise<CheckLine[]> {
  const { stdout, stderr } = await machine.run(["doctor", "--json"], { prefix });
  assert.is.not(stdout, "", stderr);
  const { checks } = JSON.parse(stdout) as { checks: CheckLine[] };
  return checks.filter(({ check, level }) => level === "failure" && check !== "origin filer");
}

function assertFound(
  failures: readonly CheckLine[],
  expected: { readonly check: string; readonly message: RegExp; readonly hint: RegExp },
): void {
  assert.is(failures.length, 1, JSON.stringify(failures));
  const [{ check, message, hint = "" }] = failures as [CheckLine];
  assert.is(check, expected.check);
  assert.match(message, expected.message);
  assert.match(hint, expected.hint);
}

if (mayMount()) {
  finds(
    "a cache on a read-only mount",
    { options: ["ro"] },
    { check: "cache", message: /machine\/cache is on a read-only mount/, hint: /mount it for writing \(.*, tmpfs\)/ },
  );

  finds(
    "a cache on a mount that runs no programs",
    { options: ["noexec"] },
    { check: "cache", message: /noexec/, hint: /remount,exec/ },
  );

  finds(
    "a disk with few inodes left",
    { inodes: 500 },
    { check: "inodes", message: /\d+ of 500 inodes are free/, hint: /more inodes/ },
  );

  test("a directory on the way that another group may write: a failure that says what to do", async () => {
    await using machine = await Machine.open();
    mkdirSync(join(machine.path, "cache", "below"), { recursive: true, mode: 0o755 });
    giveToNobody(machine.studio.path);
    const path = join(machine.path, "cache");
    chownSync(path, 65534, 100);
    chmodSync(path, 0o775);
    const failures = await failuresOf(machine, asNobody());
    assertFound(failures, { check: "cache", message: /a group that is not ours may write there/, hint: /chmod g-w/ });
  });

  test("whoever looks as root at another user's cache is told so", async () => {
    await using machine = await Machine.open();
    mkdirSync(join(machine.path, "cache"), { recursive: true, mode: 0o755 });
    giveToNobody(machine.studio.path);
    const { stdout } = await machine.run(["doctor"]);
    assert.match(stdout, /warning +user +looked at as root, and the cache belongs to user 65534/);
  });
}

test.run();
