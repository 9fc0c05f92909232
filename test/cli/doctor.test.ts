// runs unprivileged
// deadline: 400 s
import { once } from "node:events";
import { chmodSync, mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Machine, p2pcache } from "../support/command-line.ts";
import { edit, examine, finds, hook, openMachine } from "../support/doctor-machine.ts";
import { StaticServer } from "../support/static-server.ts";

const test = suite("doctor");

test("on a machine in order every line is ok, with and without a node, and the exit code is 0", async () => {
  await using machine = await openMachine();
  rmSync(join(machine.path, "state"), { recursive: true });
  assert.is((await machine.run(["fetch", "foo-1.0.0", "--linger=20"])).code, 0);
  assert.is((await machine.run(["node", "stop"])).code, 0);
  for (const running of [false, true]) {
    if (running) assert.is((await machine.run(["fetch", "foo-1.0.0", "--linger=60"])).code, 0);
    const { code, checks, failures, warnings } = await examine(machine);
    assert.equal([code, failures, warnings], [0, [], []]);
    const names = new Set(checks.map(({ check }) => check));
    for (const name of ["node-version", "blake3", "configuration", "cache", "state", "socket", "writers", "disk"]) {
      assert.ok(names.has(name), name);
    }
    for (const name of ["inodes", "reflink", "trust", "repository studio", "origin filer", "clock", "ports"]) {
      assert.ok(names.has(name), name);
    }
    for (const name of ["multicast", "bootstrap", "rez", "node"]) assert.ok(names.has(name), name);
    const node = checks.find(({ check }) => check === "node")!;
    assert.match(node.message, running ? /^process \d+, version / : /^no node runs/);
  }
});

test("plain text has a line for each check, and below it what to do", async () => {
  await using machine = await openMachine();
  edit(machine, /publishers = .*/, "publishers = []");
  const { code, stdout, stderr } = await machine.run(["doctor"]);
  assert.is(code, 1);
  assert.match(stdout, /^ok {7}node-version {2,}Node 2\d/);
  assert.match(stdout, /\nfailure {2}trust {2,}nobody's releases are trusted.*\n {20,}write the publishers' keys/);
  assert.match(stderr, " failures, ");
});

finds(
  test,
  "an unknown key in the configuration",
  "failure",
  { check: "configuration", message: /unknown key cache\.max_bites/, hint: /did you mean cache\.max_bytes/ },
  async (machine) => edit(machine, "max_bytes", "max_bites"),
);

test("with a configuration that does not load the rest is still looked at", async () => {
  await using machine = await openMachine();
  edit(machine, 'max_bytes = "100 GB"', 'max_bytes = "100 parsecs"');
  const { checks } = await examine(machine);
  assert.ok(checks.some(({ check, level }) => check === "blake3" && level === "ok"));
  assert.ok(checks.some(({ check, message }) => check === "configuration" && message.includes("not looked at")));
});

finds(
  test,
  "a directory on the way to the cache that others may write",
  "failure",
  { check: "cache", message: /machine cannot be trusted: everybody may write there \(mode 0777/, hint: /chmod o-w/ },
  async (machine, stack) => {
    // A node of the socket beside it would be refused as well.
    edit(machine, /socket = .*/, `socket = "${machine.studio.path}/run/node.sock"`);
    edit(machine, /state = .*/, `state = "${machine.studio.path}/state"`);
    chmodSync(machine.path, 0o777);
    stack.defer(() => chmodSync(machine.path, 0o755));
  },
);

finds(
  test,
  "a cache that we may not write",
  "failure",
  { check: "cache", message: /cache cannot be written by user \d+: owner \d+:\d+, mode 0555/, hint: /chown/ },
  async (machine, stack) => {
    if (process.geteuid?.() === 0) throw new Error("root may write everywhere");
    chmodSync(join(machine.path, "cache"), 0o555);
    stack.defer(() => chmodSync(join(machine.path, "cache"), 0o755));
  },
);

finds(
  test,
  "a network key that all may read",
  "failure",
  { check: "configuration", message: /network\.key may be used by others \(mode 0644\)/, hint: /chmod 600/ },
  async (machine) => chmodSync(join(machine.studio.path, "network.key"), 0o644),
);

finds(
  test,
  "a node's key that all may read",
  "failure",
  { check: "trust", message: /node\.key may be used by others/, hint: /chmod 600/ },
  async (machine) => chmodSync(join(machine.path, "state", "node.key"), 0o644),
);

finds(
  test,
  "no publisher whom we trust",
  "failure",
  { check: "trust", message: /nobody's releases are trusted/, hint: /trust\.publishers/ },
  async (machine) => edit(machine, /publishers = .*/, "publishers = []"),
);

finds(
  test,
  "an origin that is not there",
  "failure",
  { check: "origin filer", message: /nowhere/, hint: /mount it/ },
  async (machine) => edit(machine, /path = ".*\/origin"/, `path = "${machine.studio.path}/nowhere"`),
);

test("a password in an origin's address is not shown, also with an unescaped @ in it", async () => {
  await using machine = await openMachine();
  await using server = await StaticServer.open(join(machine.studio.path, "origin"));
  const url = server.url.replace("//", "//u:p@pw4711@");
  edit(machine, /kind = "folder"/, 'kind = "http"');
  edit(machine, /path = ".*\/origin"/, `url = "${url}"`);
  const { checks } = await examine(machine);
  assert.ok(checks.some(({ check }) => check === "origin filer"));
  assert.not.match(JSON.stringify(checks), "pw4711");
});

finds(
  test,
  "an origin of another network",
  "failure",
  { check: "origin filer", message: /of the network "other", not "test"/, hint: /network\.name/ },
  async (machine) => {
    const path = join(machine.studio.path, "origin", "p2pcache.json");
    writeFileSync(path, JSON.stringify({ formatVersion: 1, network: "other" }));
  },
);

finds(
  test,
  "bootstrap peers that are not there",
  "failure",
  { check: "bootstrap", message: /tcp\/\d+ cannot be reached: ECONNREFUSED/, hint: /firewall/ },
  async (machine) => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    edit(machine, "bootstrap = []", `bootstrap = ["/ip4/127.0.0.1/tcp/${port}"]`);
  },
);

finds(
  test,
  "another program where a bootstrap peer should be",
  "failure",
  { check: "bootstrap", message: /is another program/, hint: /its node running/ },
  async (machine, stack) => {
    const server = createHttpServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    stack.defer(() => void server.close());
    edit(machine, "bootstrap = []", `bootstrap = ["/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}"]`);
  },
);

finds(
  test,
  "a port that another program has",
  "failure",
  { check: "ports", message: /no node can listen at .*: another program has the port/, hint: /ss -ltnp/ },
  async (machine, stack) => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    stack.defer(() => void server.close());
    edit(machine, "127.0.0.1/tcp/0", `127.0.0.1/tcp/${(server.address() as AddressInfo).port}`);
  },
);

finds(
  test,
  "a disk with less left than is to be kept free",
  "failure",
  { check: "disk", message: /keeps 1 PB: every fetch is refused/, hint: /cache\.free_bytes_min/ },
  async (machine) => edit(machine, "1 MiB", "1000 TB"),
);

finds(
  test,
  "a cache that is told to grow past its disk",
  "warning",
  { check: "disk", message: /never reach its cache\.max_bytes of 9 PB/, hint: /lower cache\.max_bytes/ },
  async (machine) => edit(machine, "100 GB", "9000 TB"),
);

finds(
  test,
  "WebAssembly in place of the native hash engine",
  "warning",
  { check: "blake3", message: /WebAssembly/, hint: /optional dependencies/ },
  async (machine) => ({ env: { NODE_OPTIONS: hook(machine, "no-native", withoutNative) } }),
);

finds(
  test,
  "a repository that is not mounted",
  "warning",
  { check: "repository studio", message: /is not there/, hint: /mount it/ },
  async (machine) => edit(machine, /studio = ".*"/, `studio = "${machine.studio.path}/unmounted"`),
);

test("a repository that hangs is a failure that names it, within 15 s, and all else is looked at", async () => {
  await using machine = await openMachine();
  const env = { NODE_OPTIONS: hook(machine, "hang", stopsFor("repository studio")) };
  const startedMs = performance.now();
  const { failures, checks } = await examine(machine, [], env);
  assert.ok(performance.now() - startedMs < 15_000, `${performance.now() - startedMs} ms`);
  assert.equal(
    failures.map(({ check }) => check),
    ["repository studio"],
  );
  assert.match(failures[0]!.message, /nothing answered within/);
  assert.ok(checks.some(({ check, level }) => check === "origin filer" && level === "ok"));
});

test("a configuration on a disk that hangs ends within 15 s as well", async () => {
  await using machine = await openMachine();
  const { failures } = await examine(machine, [], { NODE_OPTIONS: hook(machine, "hang", stopsFor("configuration")) });
  assert.match(failures[0]!.message, /nothing answered within/);
});

finds(
  test,
  "a cache that Rez does not use",
  "failure",
  { check: "rez", message: /cache_packages_path is \/sw\/other, and cache\.path is/, hint: /cache_packages_path = "/ },
  async (machine) => {
    const file = join(machine.studio.path, "rezconfig.py");
    writeFileSync(
      file,
      'packages_path = ["~/packages"]\ncache_packages_path = "/sw/other"\nwrite_package_cache = False\n',
    );
    return { words: ["--rez-config", file] };
  },
);

finds(
  test,
  "a Rez that cleans the cache by itself",
  "warning",
  { check: "rez", message: /Rez deletes variants .* for 30 days/, hint: /write_package_cache = False/ },
  async (machine) => {
    // What the installed Rez says of itself counts; this stand-in answers as `rez-config` 3.4.0 does.
    const bin = join(machine.studio.path, "bin");
    mkdirSync(bin);
    const settings = `cache_packages_path: ${machine.path}/cache\nread_package_cache: true\nwrite_package_cache: true\npackage_cache_max_variant_days: 30\npackage_cache_clean_limit: 0.5`;
    writeFileSync(join(bin, "rez-config"), `#!/bin/sh\ncat <<'END'\n${settings}\nEND\n`, { mode: 0o755 });
    return { env: { PATH: `${bin}:${process.env.PATH}` } };
  },
);

finds(
  test,
  "a lock of Rez's that a crash left",
  "failure",
  { check: "writers", message: /\.lock\.lock has been held for 36\d\d s/, hint: /rm / },
  async (machine) => {
    const lock = join(machine.path, "cache", ".sys", ".lock.lock");
    writeFileSync(lock, "");
    const hourAgo = Date.now() / 1000 - 3600;
    utimesSync(lock, hourAgo, hourAgo);
  },
);

finds(
  test,
  "a node of another version",
  "failure",
  { check: "node", message: /speaks version 2 of the local API, this command 1/, hint: /restart the node/ },
  async (machine, stack) => {
    const server = createHttpServer((_request, response) => response.end(JSON.stringify({ apiVersion: 2 })));
    server.listen(machine.studio.settings(machine.config).node.socket);
    await once(server, "listening");
    stack.defer(() => server.closeAllConnections());
    stack.defer(() => void server.close());
  },
);

test("a configuration that is not there is said to be so", async () => {
  await using machine = await Machine.open();
  const ended = await p2pcache(["doctor", "--json", "--config", join(machine.studio.path, "none.toml")]);
  assert.is(ended.code, 1);
  assert.match(ended.stdout, /none\.toml cannot be read/);
});

test.run();

const withoutNative = `const Module = require("node:module");
const load = Module._load;
Module._load = (name, ...rest) => {
  if (name === "@napi-rs/blake-hash") throw new Error("no prebuilt binary for this platform");
  return load(name, ...rest);
};
`;

/** A process that waits for a mount that hangs does nothing any more, like one that is stopped. */
function stopsFor(job: string): string {
  return `if (process.argv.includes(${JSON.stringify(job)})) process.kill(process.pid, "SIGSTOP");\n`;
}
