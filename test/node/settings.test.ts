import { createHash } from "node:crypto";
import { mkdir, symlink } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { checkAdmission, loadSettings, requireNetwork } from "../../node/settings/load.ts";
import { nearest } from "../../node/settings/nearest.ts";
import { homeSuite, load, loadToml, put, refused, userFile } from "./settings-home.ts";

const test = homeSuite("settings");

test("without any file everything has its default", ({ home }) => {
  const { settings, origins, warnings } = load(home);
  const cache = join(home, ".cache", "p2pcache");
  const digest = createHash("sha256").update(cache).digest("hex").slice(0, 16);
  assert.equal(warnings, []);
  assert.equal(settings, {
    network: { name: undefined, keyFile: undefined, admission: "key" },
    node: {
      name: hostname(),
      listen: ["/ip4/0.0.0.0/tcp/0"],
      bootstrap: [],
      mdns: true,
      announceLoopback: false,
      site: "",
      rack: "",
      state: join(home, ".local", "state", "p2pcache"),
      socket: join(home, "run", "p2pcache", digest, "node.sock"),
      adminSocket: join(home, "run", "p2pcache", digest, "admin.sock"),
      lanes: "auto",
      lanePorts: "any",
      encryption: true,
      logLevel: "info",
    },
    cache: {
      path: cache,
      maxBytes: undefined,
      freeBytesMin: undefined,
      pinnedBytesMax: undefined,
      maxVariants: undefined,
      maxAgeMs: undefined,
      minIdleMs: 86_400_000,
      scrubPeriodMs: 30 * 86_400_000,
      indexMode: 0o666,
      chain: [],
    },
    repositories: new Map(),
    localPackages: [join(home, "packages")],
    origins: [],
    transfer: {
      peers: "auto",
      timeoutMs: 1_800_000,
      upBytesPerSecond: { interactive: undefined, jobStart: undefined, prefetch: undefined, repair: undefined },
      downBytesPerSecond: { interactive: undefined, jobStart: undefined, prefetch: undefined, repair: undefined },
    },
    trust: { rootFile: undefined, publishers: [], mode: "signed" },
    keepalive: { keys: new Map() },
    publish: {
      keyFile: join(home, ".local", "state", "p2pcache", "keys", "publisher.pem"),
      origin: undefined,
      compress: true,
    },
  });
  assert.ok([...origins.values()].every((origin) => origin === "default"));
});

test("flag beats environment beats user's file beats system's file beats default, key by key", async ({ home }) => {
  const system = join(home, "etc.toml");
  const lines = (path: string, timeout: string, rack: string) =>
    `cache.path = "${path}"\ntransfer.timeout = "${timeout}"\n${rack}`;
  await put(system, `node.site = "s"\nnode.rack = "system"\n${lines("/system", "4 s", "")}`);
  await put(userFile(home), lines("/user", "3 s", 'node.rack = "user"'));
  const env = { P2PCACHE_CACHE__PATH: "/env", P2PCACHE_TRANSFER__TIMEOUT: "2 s" };
  const { settings, origins } = load(home, { env, flags: { cache: "/flag" } });
  assert.is(settings.cache.path, "/flag");
  assert.is(settings.transfer.timeoutMs, 2000);
  assert.is(settings.node.rack, "user");
  assert.is(settings.node.site, "s");
  assert.is(settings.node.mdns, true);
  const from = ["cache.path", "transfer.timeout", "node.rack", "node.site", "node.mdns"].map((key) => origins.get(key));
  assert.equal(from, ["flag", "environment", userFile(home), system, "default"]);
});

test("every flag that overrides a setting does", async ({ home }) => {
  const flags = {
    cache: "/c",
    state: "/s",
    socket: "/r/node.sock",
    origin: "never",
    peers: "never",
    timeout: "5 s",
    repository: ["studio=/nowhere/sw", "show=/nowhere/show"],
    key: "~/k.pem",
  };
  const toml =
    '[[origin]]\nkind = "folder"\npath = "/o"\n[[origin]]\nkind = "http"\nurl = "https://o"\npolicy = "limited"';
  const { settings, origins } = await loadToml(home, toml, { flags });
  assert.is(settings.cache.path, "/c");
  assert.is(settings.node.state, "/s");
  assert.is(settings.node.socket, "/r/node.sock");
  assert.is(settings.node.adminSocket, "/r/admin.sock");
  assert.equal(
    settings.origins.map(({ policy }) => policy),
    ["never", "never"],
  );
  assert.is(settings.transfer.peers, "never");
  assert.is(settings.transfer.timeoutMs, 5000);
  assert.equal(
    [...settings.repositories],
    [
      ["studio", "/nowhere/sw"],
      ["show", "/nowhere/show"],
    ],
  );
  assert.is(settings.publish.keyFile, join(home, "k.pem"));
  assert.is(origins.get("origin"), userFile(home));
  assert.is(origins.get("origin.policy"), "flag");
});

test("a bad flag is named as it was typed", async ({ home }) => {
  assert.match((await refused(() => load(home, { flags: { origin: "often" } }))).message, '--origin: "often"');
  assert.match((await refused(() => load(home, { flags: { timeout: "soon" } }))).message, "the flag --timeout");
  assert.match((await refused(() => load(home, { flags: { timeout: "30" } }))).hint!, "30 s");
  assert.match((await refused(() => load(home, { flags: { repository: "studio" } }))).message, "--repository");
});

test("a file that is named must exist, and stands for both default files", async ({ home }) => {
  await put(join(home, "etc.toml"), 'node.site = "system"');
  await put(userFile(home), 'node.rack = "user"');
  await put(join(home, "mine.toml"), 'node.name = "mine"');
  await put(join(home, "flag.toml"), 'node.name = "flag"');
  const env = { P2PCACHE_CONFIG: join(home, "mine.toml") };
  const { settings } = load(home, { env });
  assert.equal([settings.node.name, settings.node.rack, settings.node.site], ["mine", "", ""]);
  assert.is(load(home, { env, flags: { config: "~/flag.toml" } }).settings.node.name, "flag");
  const error = await refused(() => load(home, { flags: { config: join(home, "none.toml") } }));
  assert.match(error.message, join(home, "none.toml"));
});

test("a syntax error names the file and the line", async ({ home }) => {
  const error = await refused(() => loadToml(home, '[node]\nname = "a"\nsite = what\n'));
  assert.match(error.message, `${userFile(home)}:3:`);
});

test("an unknown key is an error that names the nearest known one and the file", async ({ home }) => {
  for (const [toml, wrong, meant] of [
    ["cache.max_byte = 1", "cache.max_byte", "cache.max_bytes"],
    ["[transfer]\ntimout = '1 s'", "transfer.timout", "transfer.timeout"],
    ["max_bytes = 1", "max_bytes", "cache.max_bytes"],
    ["[nod]\nname = 'x'", "nod", "node"],
    ["[[origin]]\nkind = 'folder'\npth = '/x'", "origin[0].pth", "origin.path"],
  ] as const) {
    const error = await refused(() => loadToml(home, toml));
    assert.match(error.message, `unknown key ${wrong} `);
    assert.match(error.message, userFile(home));
    assert.is(error.hint, `did you mean ${meant}?`);
  }
  assert.is(nearest("zzzzzz", ["cache.path"]), undefined);
});

test("an unknown variable is an error if it has two underscores, else at most a warning", async ({ home }) => {
  const error = await refused(() => load(home, { env: { P2PCACHE_CACHE__PTH: "/x" } }));
  assert.match(error.message, "P2PCACHE_CACHE__PTH");
  assert.match(error.hint!, "P2PCACHE_CACHE__PATH");
  await refused(() => load(home, { env: { P2PCACHE_ORIGIN__PATH: "/x" } }));
  const { warnings } = load(home, { env: { P2PCACHE_CACHE_PATH: "/x", P2PCACHE_OTHER_PROGRAM: "1" } });
  assert.is(warnings.length, 1);
  assert.match(warnings[0]!, "P2PCACHE_CACHE__PATH");
});

test("relative paths lie below the file that names them, and ~ is the home directory", async ({ home }) => {
  const { settings } = await loadToml(home, "cache.path = 'c'\ncache.chain = ['~/x', '/y', 'z']");
  const base = dirname(userFile(home));
  assert.is(settings.cache.path, join(base, "c"));
  assert.equal(settings.cache.chain, [join(home, "x"), "/y", join(base, "z")]);
  assert.is(load(home, { flags: { cache: "c" } }).settings.cache.path, join(process.cwd(), "c"));
});

test("a repository's path is not looked at when settings are read: its mount may hang", async ({ home }) => {
  await mkdir(join(home, "real"));
  await symlink(join(home, "real"), join(home, "link"));
  const { settings } = await loadToml(home, "[repositories]\na = '~/link/'\n'b.c' = '~/none'");
  assert.equal(
    [...settings.repositories],
    [
      ["a", join(home, "link")],
      ["b.c", join(home, "none")],
    ],
  );
});

test("everybody who names one cache finds one socket, before and after it exists", async ({ home }) => {
  await mkdir(join(home, "real"));
  await symlink(join(home, "real"), join(home, "link"));
  const socketOf = (cache: string) => load(home, { flags: { cache } }).settings.node.socket;
  const before = socketOf(join(home, "link", "cache"));
  assert.is(socketOf(join(home, "real", "cache")), before);
  await mkdir(join(home, "real", "cache"));
  assert.is(socketOf(join(home, "link", "cache")), before);
  assert.is.not(socketOf(join(home, "other")), before);
});

test("without a runtime directory the socket goes into the user's own part of the temporary one", ({ home }) => {
  const { settings } = load(home, { env: { XDG_RUNTIME_DIR: undefined, TMPDIR: home } });
  assert.ok(settings.node.socket.startsWith(join(home, `p2pcache-${process.getuid!()}/`)));
});

test("a socket's path that the kernel would refuse is refused first", async ({ home }) => {
  const longest = `/${"x".repeat(95)}/node.sock`;
  assert.is(longest.length, 106);
  assert.is(load(home, { flags: { socket: longest } }).settings.node.adminSocket.length, 107);
  const error = await refused(() => load(home, { flags: { socket: longest.replace("/node", "y/node") } }));
  assert.match(error.message, "108 bytes, and 107 are allowed");
  await refused(() => load(home, { env: { XDG_RUNTIME_DIR: `/${"x".repeat(80)}` } }));
  await refused(() => load(home, { flags: { socket: "/run/admin.sock" } }));
});

test("XDG's directories and systemd's are honoured, and relative ones ignored", async ({ home }) => {
  const xdg = { XDG_CONFIG_HOME: join(home, "c"), XDG_STATE_HOME: "/xs", XDG_CACHE_HOME: "/xc" };
  await put(join(home, "c", "p2pcache", "config.toml"), "node.rack = 'r'");
  const user = load(home, { env: xdg }).settings;
  assert.equal([user.node.rack, user.node.state, user.cache.path], ["r", "/xs/p2pcache", "/xc/p2pcache"]);
  assert.is(load(home, { env: { XDG_STATE_HOME: "xs" } }).settings.node.state, join(home, ".local/state/p2pcache"));
  await put(join(home, "etc", "config.toml"), "node.site = 'service'");
  const service = loadSettings({
    home,
    env: {
      STATE_DIRECTORY: "/var/lib/p2pcache:/var/lib/more",
      CACHE_DIRECTORY: "/var/cache/p2pcache",
      RUNTIME_DIRECTORY: "/run/p2pcache",
      CONFIGURATION_DIRECTORY: join(home, "etc"),
    },
  }).settings;
  assert.equal(
    [service.node.state, service.cache.path, service.node.site],
    ["/var/lib/p2pcache", "/var/cache/p2pcache", "service"],
  );
  assert.match(service.node.socket, /^\/run\/p2pcache\/[0-9a-f]{16}\/node\.sock$/);
});

test("a node needs a network, and a key, a policy or the word open", async ({ home }) => {
  const bare = load(home).settings;
  assert.match((await refused(() => requireNetwork(bare))).message, "network.name");
  assert.match((await refused(() => checkAdmission(bare))).hint!, "open");
  checkAdmission(bare, { policy: true });
  const open = (await loadToml(home, "[network]\nname = 'studio'\nadmission = 'open'")).settings;
  assert.is(requireNetwork(open), "studio");
  checkAdmission(open);
  checkAdmission((await loadToml(home, "network.key_file = '/k'")).settings);
  const members = (await loadToml(home, "[network]\nadmission = 'members'\nkey_file = '/k'")).settings;
  assert.match((await refused(() => checkAdmission(members))).message, "no policy that names them");
  checkAdmission(members, { policy: true });
});

test("what is risky is warned about", async ({ home }) => {
  const { warnings } = await loadToml(
    home,
    "trust.mode = 'hash-only'\nnetwork.admission = 'open'\nnode.encryption = 'off'",
  );
  for (const word of ["hash-only", "open", "encryption"]) assert.match(warnings.join("\n"), word);
});

test.run();
