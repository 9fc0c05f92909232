// runs unprivileged
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, p2pcache } from "../support/command-line.ts";
import { Studio } from "../support/studio.ts";

const commands = [
  ...["fetch", "publish", "unpublish", "ls", "peers", "verify", "fsck", "demo", "origin", "origin gc", "init"],
  ...["node", "node run", "node status", "node stop", "node id"],
  ...["key", "key gen", "key show", "key network", "config", "config show", "config check"],
];

test("every command has help with an example, on stdout, and exits 0", async () => {
  for (const command of ["", ...commands]) {
    const { code, stdout, stderr } = await p2pcache([...command.split(" ").filter(Boolean), "--help"]);
    assert.is(code, 0, command);
    assert.is(stderr, "");
    assert.match(stdout, `Usage: p2pcache ${command}`.trimEnd());
    assert.match(stdout, /\nExample:\n {2}p2pcache /, command);
  }
});

test("--version prints the version alone", async () => {
  const { code, stdout } = await p2pcache(["--version"]);
  assert.is(code, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

test("what commander refuses is a usage error: one line, what to do in a second one, exit 2", async () => {
  const wrong = [["ls", "--no-such-flag"], ["fetch"], ["ls", "more"], ["ls", "--json=xml"], ["node", "walk"]];
  for (const words of wrong) {
    const { code, stdout, stderr } = await p2pcache(words);
    assert.is(code, 2, words.join(" "));
    assert.is(stdout, "");
    assert.match(stderr, /^p2pcache: [^\n]+\n( {2}[^\n]+\n)?$/);
  }
  assert.match((await p2pcache(["fecth"])).stderr, "Did you mean fetch?");
});

test("with --json a usage error has the shape of all errors, wherever the flag stands", async () => {
  for (const words of [
    ["--json", "ls", "--no-such-flag"],
    ["ls", "--no-such-flag", "--json"],
    ["ls", "--json=lines", "--no-such-flag"],
  ]) {
    const ended = await p2pcache(words);
    assert.is(ended.code, 2);
    assert.is(ended.stdout, "");
    const { code, message, exit, details } = errorIn(ended);
    assert.equal([code, message, exit], ["USAGE", "unknown option '--no-such-flag'", 2]);
    assert.type(details, "object");
  }
});

test("without a command it says what there is, and exits 2", async () => {
  const { code, stdout, stderr } = await p2pcache([]);
  assert.is(code, 2);
  assert.is(stdout, "");
  assert.match(stderr, "Usage: p2pcache");
});

test("a handle that cannot be understood is refused before any node is started", async () => {
  await using studio = await Studio.open();
  const config = studio.configure("machine", {
    more: `[[origin]]\nname = "b"\nkind = "folder"\npath = "${studio.path}/b"`,
  });
  const both = [`--repository=other=${studio.path}/other`, `--config=${config}`, "--json"];
  const ambiguous = await p2pcache(["fetch", "foo-1.0.0", ...both]);
  assert.is(ambiguous.code, 2);
  assert.match(errorIn(ambiguous).message, "ambiguous");
  const unknown = await p2pcache(["fetch", "elsewhere:foo-1.0.0", ...both]);
  assert.equal([unknown.code, errorIn(unknown).code], [2, "REPOSITORY_NOT_CONFIGURED"]);
  const status = await p2pcache(["node", "status", ...both]);
  assert.equal([status.code, errorIn(status).code], [6, "NO_NODE"]);
});

test("a configuration that is named and missing is a usage error", async () => {
  const ended = await p2pcache(["ls", "--config", join(tmpdir(), "no-such-config.toml"), "--json"]);
  assert.is(ended.code, 2);
  assert.match(errorIn(ended).message, "no-such-config.toml");
});

test("a network that nobody named keeps a node from starting, and fetch says so with the node's own exit code", async () => {
  const home = mkdtempSync(join(tmpdir(), "p2pcache-usage-"));
  try {
    const places = [`--state=${home}/state`, `--cache=${home}/cache`, `--socket=${home}/node.sock`];
    const ended = await p2pcache(["fetch", "studio:foo-1", `--repository=studio=${home}`, ...places, "--json"]);
    assert.is(ended.code, 2);
    assert.match(errorIn(ended).message, "network.name");
  } finally {
    rmSync(home, { recursive: true });
  }
});

test("a flag after the command beats the same flag before it", async () => {
  const { stdout } = await p2pcache(["--cache=/nowhere/a", "config", "--peers=never", "show", "--cache=/nowhere/b"]);
  assert.match(stdout, 'cache.path = "/nowhere/b"');
  assert.match(stdout, 'transfer.peers = "never"');
});

test("a reader that goes away early is no error", async () => {
  const { code, stderr } = await p2pcache(["config", "show"], { onProcess: (child) => child.stdout?.destroy() });
  assert.is(code, 0);
  assert.is(stderr, "");
});

test("under an old Node the launcher says in one plain line what is needed, and exits 1", () => {
  const plain = { encoding: "utf8", env: { PATH: "/usr/bin:/bin:/usr/local/bin" } } as const;
  const version = spawnSync("node", ["--version"], plain).stdout ?? "";
  if (!(Number(/^v(\d+)/.exec(version)?.[1]) < 24)) {
    process.stdout.write("skipped: the launcher under an old Node: this machine's own Node is none, or new enough\n");
    return;
  }
  const { status, stdout, stderr } = spawnSync(
    "node",
    [join(import.meta.dirname, "../../cli/launcher.js"), "ls"],
    plain,
  );
  assert.is(status, 1);
  assert.is(stdout, "");
  assert.match(stderr, /^p2pcache needs Node 24 or newer, and this is Node [\d.]+: [^\n]+\n$/);
});

test.run();
