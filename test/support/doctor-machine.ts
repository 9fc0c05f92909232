import { appendFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Test } from "uvu";
import * as assert from "uvu/assert";
import type { CheckLine } from "../../node/index.ts";
import { seededRandom } from "../../protocol/random.ts";
import { errorIn, Machine } from "./command-line.ts";
import { makeTree } from "./trees.ts";

export interface Found {
  readonly code: number | undefined;
  readonly checks: readonly CheckLine[];
  /** The one line that matters: whether its words are there is what a rule says. */
  readonly failures: readonly CheckLine[];
  readonly warnings: readonly CheckLine[];
}

/** A machine on which all is well: a release at the origin, and a cache and a state as a node leaves them. */
export async function openMachine(): Promise<Machine> {
  const machine = await Machine.open();
  const tree = join(machine.studio.path, "packages", "foo", "1.0.0");
  makeTree(tree, seededRandom(7), { smallFiles: 5, largeMib: 0 });
  cpSync(import.meta.filename, join(tree, "package.py"));
  await machine.studio.publish({ kind: "rez", repository: "studio", name: "foo", version: "1.0.0" }, tree);
  mkdirSync(join(machine.path, "cache", ".sys", "p2pcache"), { recursive: true, mode: 0o755 });
  mkdirSync(join(machine.path, "state"), { mode: 0o700 });
  mkdirSync(join(machine.path, "run"), { mode: 0o755 });
  writeFileSync(join(machine.path, "state", "node.key"), "a key", { mode: 0o600 });
  return machine;
}

export async function examine(
  machine: Machine,
  words: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<Found> {
  const hangs = env.NODE_OPTIONS?.includes("hang") === true;
  let ended = await machine.run(["doctor", "--json", ...words], { env });
  // A machine that is busy with other tests is slower than a mount that hangs.
  for (let tries = 0; tries < 3 && !hangs && ended.stdout.includes("nothing answered within"); tries++) {
    ended = await machine.run(["doctor", "--json", ...words], { env });
  }
  const { schema, checks, ok } = JSON.parse(ended.stdout) as { schema: string; checks: CheckLine[]; ok: boolean };
  const of = (level: string) => checks.filter((line) => line.level === level);
  assert.equal([schema, ok], ["p2pcache/doctor/1", of("failure").length === 0]);
  assert.is(ended.code, ok ? 0 : 1, ended.stderr);
  if (!ok) assert.is(errorIn(ended).code, "DOCTOR_FAILURES");
  return { code: ended.code, checks, failures: of("failure"), warnings: of("warning") };
}

/** How `doctor` is then called; nothing where the fault lies on the disk. */
interface Planted {
  readonly words?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** A rule about one planted fault: the lines that are not ok are those of `check`, in these words, with a hint. */
export function finds(
  test: Test,
  what: string,
  level: "failure" | "warning",
  expected: { readonly check: string; readonly message: RegExp; readonly hint: RegExp },
  plant: (machine: Machine, stack: AsyncDisposableStack) => Promise<unknown>,
): void {
  test(`${what}: a ${level} that says what to do`, async () => {
    await using machine = await openMachine();
    await using stack = new AsyncDisposableStack();
    const { words = [], env = {} } = ((await plant(machine, stack)) ?? {}) as Planted;
    const { failures, warnings } = await examine(machine, words, env);
    const found = level === "failure" ? failures : warnings;
    const line = found.find(({ check }) => check === expected.check);
    assert.ok(line !== undefined, JSON.stringify([failures, warnings]));
    assert.match(line.message, expected.message);
    assert.match(line.hint ?? "", expected.hint);
    if (level === "warning") assert.equal(failures, []);
    else assert.equal(new Set(failures.map(({ check }) => check)), new Set([expected.check]));
  });
}

/** Appends TOML, or replaces what is there. */
export function edit(machine: Machine, from: string | RegExp, to: string): void {
  const text = readFileSync(machine.config, "utf8");
  const edited = text.replace(from, to);
  assert.is.not(edited, text, "the fault was planted");
  writeFileSync(machine.config, edited);
}

/** Node's own way to run something first: how a fault of the machine is planted in each process of the command. */
export function hook(machine: Machine, name: string, script: string): string {
  const path = join(machine.studio.path, `${name}.cjs`);
  appendFileSync(path, script);
  return `--require ${path}`;
}
