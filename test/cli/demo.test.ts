// runs unprivileged
// deadline: 300 s
// alone
// in memory
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { p2pcache } from "../support/command-line.ts";

interface DemoReport {
  readonly schema: string;
  readonly payloadBytes: number;
  readonly originBytes: number;
  readonly nodes: readonly {
    readonly name: string;
    readonly local: number;
    readonly peers: number;
    readonly origin: number;
    readonly seconds: number;
    readonly verified: boolean;
  }[];
  readonly treesEqual: boolean;
}

test("the demo's last four nodes take at least 95 % from peers, all trees equal their sources, and nothing is left", async () => {
  const { code, stdout, stderr } = await p2pcache(["demo", "--json"]);
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
  const report = JSON.parse(stdout) as DemoReport;
  const { schema, payloadBytes, originBytes, nodes, treesEqual } = report;
  assert.equal(Object.keys(report), ["schema", "payloadBytes", "originBytes", "nodes", "treesEqual"]);
  assert.is(schema, "p2pcache/demo/1");
  assert.is(treesEqual, true);
  assert.is(nodes.length, 5);
  assert.is(
    originBytes,
    nodes.reduce((total, { origin }) => total + origin, 0),
  );
  for (const [at, node] of nodes.entries()) {
    assert.equal(Object.keys(node), ["name", "local", "peers", "origin", "seconds", "verified"]);
    assert.is(node.verified, true);
    assert.ok(node.seconds > 0);
    assert.ok(node.local + node.peers + node.origin >= payloadBytes, JSON.stringify(node));
    if (at > 0) assert.ok(node.peers / (node.peers + node.origin) >= 0.95, JSON.stringify(node));
  }
  assert.equal(leftovers(), []);
});

for (const [signal, when] of [
  ["SIGTERM", "publishing"],
  ["SIGINT", "fetch at once"],
] as const) {
  test(`a demo that gets ${signal} while it says "${when}" exits 130 and leaves nothing`, async () => {
    const { code, stdout } = await p2pcache(["demo"], {
      onProcess: (child) => killWhen(child, when, signal),
    });
    assert.is(code, 130);
    assert.is(stdout, "");
    assert.equal(leftovers(), []);
  });
}

test.run();

function killWhen(child: ChildProcess, text: string, signal: NodeJS.Signals): void {
  let said = "";
  child.stderr?.on("data", (bytes: Buffer) => {
    if (said.includes(text)) return;
    said += bytes.toString();
    if (said.includes(text)) child.kill(signal);
  });
}

/** Directories and processes of any demo in our temporary directory. */
function leftovers(): string[] {
  const prefix = "p2pcache-demo-";
  const directories = readdirSync(tmpdir()).filter((name) => name.startsWith(prefix));
  const processes = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(commandOf)
    .filter((command) => command.includes(`${tmpdir()}/${prefix}`));
  return [...directories, ...processes];
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
}
