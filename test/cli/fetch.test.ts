// runs unprivileged
// deadline: 120 s
import { once } from "node:events";
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import { errorIn, Machine } from "../support/command-line.ts";
import { listTree, makeTree } from "../support/trees.ts";

/** Nodes that commands start end soon after the test. */
const soon = "--linger=20";

test("publish, fetch, ls, verify: and what is held is not fetched again", async () => {
  await using machine = await Machine.open();
  const source = packageTree(machine, "foo");
  const published = await machine.json(["publish", "foo-1.0.0", "--requires", "python-3, bar"]);
  const { schema, variant, payload, revision, files, bytes, chunks, newChunks, newBytes } = published.out as Figures;
  assert.equal([published.code, schema, revision], [0, "p2pcache/publish/1", 0]);
  assert.ok(Number(files) > 0 && Number(bytes) > 0 && chunks === newChunks && newBytes === bytes);
  const again = (await machine.json(["publish", "foo-1.0.0", "--requires", "python-3,bar"])).out as Figures;
  assert.equal([again.revision, again.payload, again.newChunks], [0, payload, 0]);

  const first = await machine.json(["fetch", "foo-1.0.0", soon]);
  const [fetched] = (first.out as { variants: Figures[] }).variants;
  assert.equal([first.code, fetched?.outcome, fetched?.variant, fetched?.payload], [0, "fetched", variant, payload]);
  assert.equal(listTree(fetched?.path as string), listTree(source));

  const second = await machine.run(["fetch", "studio:foo/1.0.0", `payload:${payload}`]);
  assert.equal(second, { code: 0, stdout: `${fetched?.path}\n${fetched?.path}\n`, stderr: "" });

  const { out } = await machine.json(["ls"]);
  const [held] = (out as { holdings: Figures[] }).holdings;
  const { lastUsed, ...rest } = held!;
  assert.equal(rest, {
    name: "foo",
    version: "1.0.0",
    variant,
    payload,
    path: fetched?.path,
    bytes,
    files,
    state: "whole",
  });
  assert.ok(!Number.isNaN(Date.parse(lastUsed as string)));
  assert.equal((await machine.json(["verify"])).out, { schema: "p2pcache/verify/1", checked: 1, damaged: [] });
  assert.equal((await machine.json(["fsck"])).out, { schema: "p2pcache/fsck/1", checked: 1, faults: [] });
  assert.equal((await machine.json(["peers"])).out, { schema: "p2pcache/peers/1", peers: [] });
});

test("ls, verify and fsck need no node; status and peers do", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  await machine.run(["fetch", "foo-1.0.0", soon]);
  assert.is((await machine.run(["node", "stop"])).code, 0);
  const listed = await machine.run(["ls", "--json=lines"]);
  assert.equal(
    [listed.code, JSON.parse(listed.stdout).schema, JSON.parse(listed.stdout).name],
    [0, "p2pcache/ls/1", "foo"],
  );
  assert.is((await machine.run(["verify", "foo-1.0.0"])).code, 0);
  assert.is((await machine.run(["fsck"])).code, 0);
  for (const words of [["node", "status"], ["node", "stop"], ["peers"]]) {
    const { code, stderr } = await machine.run(words);
    assert.is(code, 6);
    assert.match(stderr, "p2pcache node run");
  }
});

test("fetches that start at once share one node", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const ended = await Promise.all([1, 2, 3].map(() => machine.run(["fetch", "foo-1.0.0", soon])));
  assert.equal(
    ended.map(({ code }) => code),
    [0, 0, 0],
  );
  assert.is(new Set(ended.map(({ stdout }) => stdout)).size, 1);
  const log = readFileSync(join(machine.path, "state", "node.log"), "utf8");
  assert.is(log.split('"event":"node-started"').length - 1, 1);
});

test("of several variants those that can be had are printed, each failure is one line, and its code is the exit code", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const plain = await machine.run(["fetch", "bar-2.0.0", "foo-1.0.0", "baz-1", soon, "--quiet"]);
  assert.is(plain.code, 3);
  assert.match(plain.stdout, /^\/.+\/foo\/1\.0\.0\/[^\n]+\n$/);
  assert.match(plain.stderr, /^p2pcache: studio:bar-2\.0\.0: .+\np2pcache: studio:baz-1: .+\n$/);
  const json = await machine.run(["fetch", "bar-2.0.0", "--json"]);
  assert.equal([json.code, errorIn(json).code, errorIn(json).exit], [3, "NOT_FOUND", 3]);
  assert.is(JSON.parse(json.stdout).variants[0].outcome, "failed");
});

test("handles come from stdin and from contexts too", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  const location = join(machine.studio.path, "packages");
  const variables = { location, name: "foo", version: "1.0.0", index: null, repository_type: "filesystem" };
  const handle = { key: "filesystem.variant", variables };
  const input = JSON.stringify([{ handle, requires: ["python-3"], cachable: true }]);
  const published = await machine.run(["publish", "--from-json", "-", "--json"], { input });
  assert.is(JSON.parse(published.stdout).published.length, 1);
  const fromStdin = await machine.run(["fetch", "-", soon, "--quiet"], { input: JSON.stringify(handle) });
  assert.is(fromStdin.code, 0);
  const context = join(machine.studio.path, "context.rxt");
  const elsewhere = { key: "filesystem.variant", variables: { ...variables, location: "/srv/elsewhere", name: "bar" } };
  writeFileSync(context, JSON.stringify({ resolved_packages: [handle, elsewhere] }));
  const fromContext = await machine.run(["fetch", context]);
  assert.equal([fromContext.code, fromContext.stdout], [0, fromStdin.stdout]);
  assert.match(fromContext.stderr, "bar-1.0.0 is left out");
});

test("a variant with an index is published with --root only", async () => {
  await using machine = await Machine.open();
  const source = packageTree(machine, "foo");
  const refused = await machine.run(["publish", "foo-1.0.0[0]", "--json"]);
  assert.is(refused.code, 2);
  assert.match(errorIn(refused).message, "--root");
  assert.is((await machine.run(["publish", "foo-1.0.0[0]", "--root", source])).code, 0);
});

test("a release of a publisher whom nobody here trusts exits 5", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const stranger = `ed25519:${Buffer.alloc(32, 7).toString("base64")}`;
  const env = { P2PCACHE_TRUST__PUBLISHERS: stranger };
  const ended = await machine.run(["fetch", "foo-1.0.0", soon, "--json"], { env });
  assert.equal([ended.code, errorIn(ended).exit], [5, 5]);
});

test("a damaged tree is found by verify, with and without a node: exit 4", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const { stdout } = await machine.run(["fetch", "foo-1.0.0", soon]);
  const tool = join(stdout.trimEnd(), "bin", "tool");
  chmodSync(tool, 0o755);
  writeFileSync(tool, "#!/bin/sH\n");
  for (const stopFirst of [false, true]) {
    if (stopFirst) await machine.run(["node", "stop"]);
    const ended = await machine.run(["verify", "--json"]);
    assert.equal([ended.code, errorIn(ended).code], [4, "TREE_DAMAGED"]);
    const { checked, damaged } = JSON.parse(ended.stdout) as {
      checked: number;
      damaged: { path: string; file: string; item: number | null; fault: string }[];
    };
    assert.is(checked, 1);
    const { path, item, fault } = damaged.find(({ file }) => file === "bin/tool")!;
    assert.is(path, stdout.trimEnd());
    assert.type(item, "number");
    assert.match(fault, /mode 755.*other content/);
  }
});

test("an interrupted fetch exits 130, and the node that it talked to runs on", async () => {
  await using machine = await Machine.open();
  const { socket } = machine.studio.settings(machine.config).node;
  await using node = await fakeNode(socket, 1);
  const ended = machine.run(["fetch", "foo-1.0.0", "--json"], {
    onProcess: (child) => void node.asked.then(() => child.kill("SIGINT")),
  });
  assert.equal([(await ended).code, errorIn(await ended).code], [130, "INTERRUPTED"]);
});

test("a node of another version is named as such: exit 1", async () => {
  await using machine = await Machine.open();
  await using _node = await fakeNode(machine.studio.settings(machine.config).node.socket, 2);
  const ended = await machine.run(["fetch", "foo-1.0.0", "--json"]);
  assert.equal([ended.code, errorIn(ended).code], [1, "API_VERSION"]);
});

test("node run says once that it is ready, and ends cleanly on SIGTERM", async () => {
  await using machine = await Machine.open();
  const ended = await machine.run(["node", "run"], {
    onProcess: (child) => child.stdout?.once("data", () => child.kill("SIGTERM")),
  });
  assert.is(ended.code, 0);
  assert.match(ended.stdout, /^ready 12D3Koo\w+ \/\S+\/node\.sock \/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/12D3Koo\w+\n$/);
  const events = ended.stderr.trimEnd().split("\n");
  assert.equal(
    events.map((line) => JSON.parse(line).event),
    ["node-started", "node-stopped"],
  );
});

test.run();

type Figures = Record<string, unknown>;

/** Where Rez would have it. @returns the tree. */
function packageTree(machine: Machine, name: string): string {
  const path = join(machine.studio.path, "packages", name, "1.0.0");
  makeTree(path, seededRandom(7), { smallFiles: 30, largeMib: 4 });
  cpSync(import.meta.filename, join(path, "package.py"));
  chmodSync(path, 0o755);
  return path;
}

/** Answers as a node does, and never ends a fetch. */
async function fakeNode(socket: string, apiVersion: number): Promise<AsyncDisposable & { asked: Promise<void> }> {
  mkdirSync(join(socket, ".."), { recursive: true });
  const asked = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    if (request.url === "/v1/status") response.end(JSON.stringify({ apiVersion }));
    else if (request.url === "/v1/fetch") {
      response.writeHead(200).flushHeaders();
      asked.resolve();
    } else response.writeHead(500).end(JSON.stringify({ error: { code: "NOTHING", message: "no", exit: 6 } }));
  });
  server.listen(socket);
  await once(server, "listening");
  const dispose = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
  return { asked: asked.promise, [Symbol.asyncDispose]: dispose };
}
