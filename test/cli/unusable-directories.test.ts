// deadline: 180 s
import { chmodSync, chownSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Ended, errorIn, Machine } from "../support/command-line.ts";
import { asNobody, giveToNobody, mayMount, onOwnDisks } from "../support/own-disk.ts";

const test = suite("directories that cannot be used");
const isRoot = process.getuid?.() === 0;
/** Whom the commands run as: root sees no fault of permissions. */
const user = isRoot ? 65534 : process.getuid?.();

interface Place {
  readonly machine: Machine;
  /** The directory of the rule, which is there. */
  readonly path: string;
}

/** A rule about cache or state: `node run` and `fetch` end with exit code 1 and one line that names the directory. */
function rule(
  text: string,
  plant: (place: Place) => { readonly prefix?: readonly string[]; readonly says: RegExp },
): void {
  for (const which of ["cache", "state"]) {
    test(`a ${which} ${text}`, async () => {
      await using machine = await Machine.open();
      const path = join(machine.path, which);
      mkdirSync(path, { recursive: true, mode: 0o755 });
      if (isRoot) giveToNobody(machine.studio.path);
      const { prefix = asNobody(), says } = plant({ machine, path });
      for (const words of [
        ["node", "run"],
        ["fetch", "foo-1.0.0", "--linger=5"],
      ]) {
        const plain = await machine.run(words, { prefix });
        assertOneLine(plain, path, says);
        assert.is(errorIn(await machine.run([...words, "--json"], { prefix })).exit, 1);
      }
      chmodSync(path, 0o755);
    });
  }
}

function assertOneLine({ code, stdout, stderr }: Ended, path: string, says: RegExp): void {
  assert.equal([code, stdout], [1, ""], stderr);
  // A second line says what to do.
  assert.match(stderr, /^p2pcache: [^\n]+\n( {2}[^\n]+\n)?$/);
  assert.match(stderr, path);
  assert.match(stderr, says);
}

rule("that this user may not write: exit 1, the directory and its owner", ({ path }) => {
  chmodSync(path, 0o555);
  return { says: new RegExp(`user ${user}.* belongs to user ${user}, mode 05`) };
});

if (mayMount()) {
  rule("that belongs to another user: exit 1, the directory and its owner", ({ path }) => {
    chownSync(path, 0, 0);
    return { says: /belongs to user 0/ };
  });

  rule("on a read-only mount: exit 1, and the directory", ({ path }) => {
    return { prefix: onOwnDisks([{ path, options: ["ro"] }]), says: /read-only/ };
  });
}

test("a cache below what this user may not write is not made: exit 1, the directory and its owner", async () => {
  await using machine = await Machine.open();
  if (isRoot) giveToNobody(machine.studio.path);
  mkdirSync(machine.path, { mode: 0o555 });
  if (isRoot) chownSync(machine.path, 65534, 65534);
  const ended = await machine.run(["node", "run"], { prefix: asNobody() });
  assertOneLine(ended, machine.path, new RegExp(`belongs to user ${user}, mode 0555`));
  assert.not(existsSync(join(machine.path, "cache")));
  chmodSync(machine.path, 0o755);
});

test.run();
