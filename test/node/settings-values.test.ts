import { chmod, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parse } from "smol-toml";
import * as assert from "uvu/assert";
import { generateNetworkKey, generatePublisherKey } from "../../node/keys.ts";
import { resolveDiskDefaults } from "../../node/settings/schema.ts";
import { checkSettings, showSettings, showSettingsJson } from "../../node/settings/show.ts";
import { settingKeys } from "../../node/settings/table.ts";
import { homeSuite, load, loadToml, publicKey, put, refused, userFile } from "./settings-home.ts";

const test = homeSuite("settings-values");

test("variables give lists, numbers, truths and tables, and an empty one is not set", async ({ home }) => {
  const env = {
    P2PCACHE_NODE__BOOTSTRAP: "/ip4/10.0.0.1/tcp/1, /ip4/10.0.0.2/tcp/1",
    P2PCACHE_TRUST__PUBLISHERS: `["${publicKey}"]`,
    P2PCACHE_NODE__MDNS: "false",
    P2PCACHE_NODE__LANES: "0",
    P2PCACHE_NODE__SITE: "",
    P2PCACHE_NODE__ENCRYPTION: "off",
    P2PCACHE_CACHE__MAX_VARIANTS: "12",
    P2PCACHE_CACHE__MAX_BYTES: "1000",
    P2PCACHE_LOCAL_PACKAGES: "~/a,/b",
    P2PCACHE_REPOSITORIES__STUDIO: "/nowhere",
    P2PCACHE_ORIGIN: '[{"kind":"folder","path":"~/o"}]',
    P2PCACHE_TRANSFER__UP: '{"prefetch":"80 Mbit/s"}',
  };
  const { settings, warnings } = load(home, { env });
  assert.equal(settings.node.bootstrap, ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"]);
  assert.equal(settings.trust.publishers, [publicKey]);
  assert.equal([settings.node.mdns, settings.node.lanes, settings.node.site], [false, 0, ""]);
  assert.equal([settings.cache.maxVariants, settings.cache.maxBytes], [12, 1000]);
  assert.equal(settings.localPackages, [join(home, "a"), "/b"]);
  assert.is(settings.repositories.get("studio"), "/nowhere");
  assert.equal(settings.origins[0], {
    name: "origin",
    policy: "auto",
    slots: undefined,
    rateBytesPerSecond: undefined,
    kind: "folder",
    path: join(home, "o"),
    inPlace: true,
  });
  assert.is(settings.transfer.upBytesPerSecond.prefetch, 10e6);
  assert.is(settings.transfer.upBytesPerSecond.repair, undefined);
  assert.match(warnings.join(), "encryption");
  assert.match((await refused(() => load(home, { env: { P2PCACHE_ORIGIN: "[{" } }))).message, "P2PCACHE_ORIGIN");
});

test("a value that breaks a rule is named with its key, its place and how it is written", async ({ home }) => {
  for (const [toml, key, example] of [
    ["cache.max_bytes = '500 XB'", "cache.max_bytes", "500 GB"],
    ["cache.max_bytes = -1", "cache.max_bytes", "500 GB"],
    ["cache.max_variants = 0", "cache.max_variants", "100"],
    ["cache.min_idle = 'a day'", "cache.min_idle", "24 h"],
    ["cache.path = ''", "cache.path", "/"],
    ["cache.path = 5", "cache.path", "/"],
    ["cache.index_mode = '0444'", "cache.index_mode", "0666"],
    ["cache.chain = ['/a', 5]", "cache.chain[1]", "/"],
    ["transfer.timeout = '0 s'", "transfer.timeout", "30 min"],
    ["transfer.timeout = '25 d'", "transfer.timeout", "30 min"],
    ["transfer.up = '200 Mb/s'", "transfer.up", "200 MB/s"],
    ["transfer.peers = 'some'", "transfer.peers", "never"],
    ["network.name = 'a/b'", "network.name", "studio"],
    ["network.admission = 'all'", "network.admission", "open"],
    ["node.mdns = 'yes'", "node.mdns", "true"],
    ["node.lanes = 65", "node.lanes", "auto"],
    ["node.lane_ports = '5-4'", "node.lane_ports", "any"],
    ["node.lane_ports = '1-70000'", "node.lane_ports", "any"],
    ["node.listen = '/ip4/0.0.0.0/tcp/0'", "node.listen", "["],
    ["node.listen = ['localhost:80']", "node.listen[0]", "/ip4/"],
    ["trust.publishers = ['ed25519:AAAA']", "trust.publishers[0]", "ed25519:"],
    ["trust.mode = 1979-05-27", "trust.mode", "signed"],
    ["repositories.'a/b' = '/x'", "repositories.a/b", "studio"],
    ["repositories.a = true", "repositories.a", "studio"],
    ["origin = 'x'", "origin", "[[origin]]"],
    ["[[origin]]\nkind = 'ftp'", "origin[0].kind", "folder"],
    ["[[origin]]\npath = '/x'", "origin[0].kind", "folder"],
    ["[[origin]]\nkind = 'http'\nurl = 'ftp://x'", "origin[0].url", "https://"],
    ["[[origin]]\nkind = 'http'\nurl = 'https://x/?a=1'", "origin[0].url", "https://"],
  ] as const) {
    const error = await refused(() => loadToml(home, toml));
    assert.is(error.message.split(/:| is missing/)[0], key, error.message);
    assert.match(error.message, `(from ${userFile(home)})`);
    assert.ok(error.hint?.includes(example), `${toml}: ${error.hint}`);
  }
  assert.match((await refused(() => loadToml(home, "node = 5"))).message, "node is a table");
});

test("an origin has what its kind needs, and a name of its own", async ({ home }) => {
  const folder = "[[origin]]\nkind = 'folder'\npath = 'shared'\n";
  const http = "[[origin]]\nkind = 'http'\nurl = 'https://o/x'\nslots = 4\nrate = '2 Gbit/s'\n";
  const { settings } = await loadToml(home, `${http}${folder}name = 'filer'\nin_place = false\n${folder}`);
  assert.equal(
    settings.origins.map(({ name }) => name),
    ["origin", "filer", "origin3"],
  );
  assert.equal(settings.origins[0], {
    name: "origin",
    policy: "auto",
    slots: 4,
    rateBytesPerSecond: 250e6,
    kind: "http",
    url: "https://o/x",
    caFile: undefined,
    credentialsFile: undefined,
  });
  assert.equal(settings.origins[1], {
    name: "filer",
    policy: "auto",
    slots: undefined,
    rateBytesPerSecond: undefined,
    kind: "folder",
    path: join(dirname(userFile(home)), "shared"),
    inPlace: false,
  });
  assert.is(settings.publish.origin, "filer");
  for (const [toml, message] of [
    ["[[origin]]\nkind = 'folder'", "origin[0]: kind folder needs path"],
    ["[[origin]]\nkind = 'http'", "origin[0]: kind http needs url"],
    [`${folder}url = 'https://x'`, "origin[0]: kind folder has no url"],
    [`${folder}ca_file = 'ca.pem'`, "origin[0]: kind folder has no ca_file"],
    [`${folder}credentials_file = 'secret'`, "origin[0]: kind folder has no credentials_file"],
    [`${folder}name = 'a'\n${folder}name = 'a'`, "two origins are named a"],
    [`publish.origin = 'flier'\n${folder}name = 'filer'`, 'no folder origin is named "flier"'],
    [`publish.origin = 'origin'\n${http}`, 'no folder origin is named "origin"'],
  ] as const) {
    assert.ok((await refused(() => loadToml(home, toml))).message.includes(message), message);
  }
});

test("limits that depend on the disk are resolved from its size, and written ones stay", async ({ home }) => {
  const free = resolveDiskDefaults(load(home).settings, { totalBytes: 1000 }).cache;
  assert.equal([free.maxBytes, free.freeBytesMin, free.pinnedBytesMax], [800, 50, 640]);
  const { settings } = await loadToml(home, "cache.max_bytes = 100\ncache.free_bytes_min = 7");
  const set = resolveDiskDefaults(settings, { totalBytes: 1000 }).cache;
  assert.equal([set.maxBytes, set.freeBytesMin, set.pinnedBytesMax], [100, 7, 80]);
});

test("a rate for all classes holds for each, and a table gives each its own", async ({ home }) => {
  const { settings } = await loadToml(home, "[transfer]\nup = '1 MB/s'\ndown = { job_start = '2 MB/s' }");
  assert.equal(settings.transfer.upBytesPerSecond, { interactive: 1e6, jobStart: 1e6, prefetch: 1e6, repair: 1e6 });
  assert.is(settings.transfer.downBytesPerSecond.jobStart, 2e6);
  assert.is(settings.transfer.downBytesPerSecond.repair, undefined);
});

test("what is shown is TOML that loads to the same settings", async ({ home }) => {
  const toml = `[cache]\nmax_bytes = "500 GB"\n[repositories]\n"a.b" = "/nowhere"\n[trust]\npublishers = ["${publicKey}"]\n[[origin]]\nkind = "folder"\npath = "/o \\"x\\""\n`;
  const loaded = await loadToml(home, toml);
  const lines = showSettings(loaded, { origin: true });
  assert.ok(lines.includes(`cache.max_bytes = "500 GB"  # ${userFile(home)}`));
  assert.ok(lines.includes("# cache.max_variants: no limit  # default"));
  assert.ok(showSettings(loaded, { origin: false }).includes('cache.max_bytes = "500 GB"'));
  parse(lines.join("\n"));
  await put(join(home, "again.toml"), lines.join("\n"));
  assert.equal(load(home, { flags: { config: join(home, "again.toml") } }).settings, loaded.settings);
  const { schema, settings } = showSettingsJson(loaded, { origin: true });
  assert.is(schema, "p2pcache/config/1");
  assert.equal(
    settings.find(({ key }) => key === "cache.max_bytes"),
    { key: "cache.max_bytes", value: "500 GB", origin: userFile(home) },
  );
  assert.not.ok("origin" in showSettingsJson(loaded, { origin: false }).settings[0]!);
});

test("a password in a URL is never printed", async ({ home }) => {
  const origin = (url: string) => `[[origin]]\nkind = 'http'\nurl = '${url}'`;
  const loaded = await loadToml(home, origin("https://me:s3cret@o/x"));
  assert.is((loaded.settings.origins[0] as { url: string }).url, "https://me:s3cret@o/x");
  const printed =
    showSettings(loaded, { origin: true }).join() + JSON.stringify(showSettingsJson(loaded, { origin: true }));
  assert.not.match(printed, "s3cret");
  assert.match(printed, "https://***@o/x");
  assert.not.match((await refused(() => loadToml(home, origin("https://me:s3cret@o/x?q")))).message, "s3cret");
});

test("a check finds what is missing, exposed or not there, and says how bad that is", async ({ home }) => {
  const network = join(home, "network.key");
  const publisher = join(home, "publisher.pem");
  const toml = `network = { name = "studio", key_file = "${network}" }\npublish.key = "${publisher}"\ntrust.publishers = ["${publicKey}"]\nrepositories.a = "/nowhere/a"\n[[origin]]\nkind = "folder"\npath = "/nowhere/o"`;
  const found = async () =>
    (await checkSettings(await loadToml(home, toml))).map(({ severity, key }) => `${severity} ${key}`);
  assert.equal(await found(), [
    "error network.key_file",
    "warning publish.key",
    "warning repositories.a",
    "warning origin origin",
  ]);
  await generateNetworkKey(network);
  await generatePublisherKey(publisher);
  assert.equal(await found(), ["warning repositories.a", "warning origin origin"]);
  await chmod(network, 0o644);
  await chmod(publisher, 0o644);
  assert.equal((await found()).slice(0, 2), ["error network.key_file", "error publish.key"]);
  const bare = async (text: string) =>
    (await checkSettings(await loadToml(home, text))).map(({ severity, key }) => `${severity} ${key}`);
  const missing = ["error network.name", "error network.admission", "warning trust.publishers"];
  assert.equal(await bare("node.mdns = false"), [...missing, "warning origin"]);
  // Peers are found by mDNS.
  assert.equal(await bare(""), missing);
});

test("a check finds what opening a node would refuse", async ({ home }) => {
  const key = join(home, "network.key");
  const check = async (toml: string) =>
    (await checkSettings(await loadToml(home, `network.name = "studio"\n${toml}`))).filter(
      ({ severity }) => severity === "error",
    );
  await generateNetworkKey(key);
  const [members] = await check(`network.admission = "members"\nnetwork.key_file = "${key}"`);
  assert.match(members!.message, "no policy that names them");
  assert.match(members!.hint!, /"key".*"open"/);
  const peersNever = 'network.admission = "members"\ntransfer.peers = "never"';
  assert.equal(await check(peersNever), []);
  const http = `network.key_file = "${key}"\n[[origin]]\nkind = "http"\nurl = "https://o/x"`;
  assert.equal(await check(http), []);
  const [authorities] = await check(`${http}\nca_file = "${key}"`);
  assert.is(authorities!.key, "origin origin ca_file");
  assert.match(authorities!.message, "holds no certificates");
  assert.equal(await check(`${http}\nca_file = "${key}"\npolicy = "never"`), []);
  await writeFile(key, "no key\n");
  assert.equal(
    (await check(`network.key_file = "${key}"`)).map((problem) => problem.key),
    ["network.key_file"],
  );
});

test("the files of an http origin lie below the file that names them, and a check reads them", async ({ home }) => {
  const http = "[[origin]]\nkind = 'http'\nurl = 'http://o/x'\ncredentials_file = 'secret'\nca_file = '~/ca.pem'\n";
  const loaded = await loadToml(home, http);
  const [origin] = loaded.settings.origins as unknown as [{ caFile: string; credentialsFile: string }];
  assert.is(origin.caFile, join(home, "ca.pem"));
  assert.is(origin.credentialsFile, join(dirname(userFile(home)), "secret"));
  const faults = async () =>
    (await checkSettings(loaded))
      .filter(({ key }) => key?.startsWith("origin origin "))
      .map(({ key, message }) => [key, message]);
  const missing = await faults();
  assert.equal(
    missing.map(([key]) => key),
    ["origin origin ca_file", "origin origin credentials_file", "origin origin url"],
  );
  assert.match(missing[1]![1]!, /there is no credentials file at .*secret/);
  await writeFile(origin.credentialsFile, "bearer t0ken\n", { mode: 0o644 });
  const [, exposed] = await faults();
  assert.match(exposed![1]!, "may be used by others");
  assert.not.match(JSON.stringify(await faults()), "t0ken");
});

test("a check names the settings that have no effect yet, where they are set", async ({ home }) => {
  const idle = async (toml: string) =>
    (await checkSettings(await loadToml(home, toml)))
      .filter(({ message }) => message.includes("no effect yet"))
      .map((problem) => problem.key);
  assert.equal(await idle("node.mdns = false\nnode.lanes = 0\n[[origin]]\nkind = 'folder'\npath = '/o'"), []);
  const toml = `network.admission = "members"
node = { mdns = true, lanes = 4, lane_ports = "4000-4001" }
cache = { chain = ["/c"], max_age = "9 d", max_variants = 5 }
transfer = { peers = "never", up = "1 MB/s", down = "1 MB/s" }`;
  assert.equal(await idle(toml), [
    "network.admission",
    "node.lanes",
    "cache.chain",
    "node.lane_ports",
    "cache.max_variants",
    "cache.max_age",
  ]);
});

test("a check says which budgets of origins do not do what they seem to", async ({ home }) => {
  const said = async (origin: string, more = "") =>
    (await checkSettings(await loadToml(home, `${more}\n[[origin]]\nkind = 'folder'\npath = '/o'\n${origin}`)))
      .filter(({ key }) => key === "origin origin policy")
      .map(({ severity, message }) => `${severity}: ${message}`);
  assert.equal(await said("policy = 'limited'\nslots = 2"), []);
  assert.equal(await said("policy = 'limited'\nrate = '1 MB/s'"), []);
  assert.equal(await said("policy = 'never'\nrate = '1 MB/s'"), []);
  assert.match((await said("rate = '1 MB/s'")).join(), /^warning: it is "auto", so its slots and rate hold for/);
  assert.equal(await said("policy = 'limited'"), ["warning: it is limited, yet to nothing"]);
  assert.match(
    (await said("policy = 'limited'\nslots = 2", "transfer.peers = 'never'")).join(),
    "takes the whole of it",
  );
});

test("a rate or slots of nothing are refused: they would not be slow but stuck", async ({ home }) => {
  const folder = "[[origin]]\nkind = 'folder'\npath = '/o'\n";
  for (const [toml, message] of [
    [`${folder}rate = 0`, "origin[0].rate: 0 is not a rate above zero"],
    [`${folder}rate = "0 MB/s"`, 'origin[0].rate: "0 MB/s" is not a rate above zero'],
    [`${folder}rate = "fast"`, 'origin[0].rate: "fast" is not a rate above zero'],
    [`${folder}slots = 0`, "origin[0].slots: 0 is not a whole number above zero"],
    [`${folder}slots = 1.5`, "origin[0].slots: 1.5 is not a whole number above zero"],
    [`${folder}policy = "sometimes"`, 'origin[0].policy: "sometimes" is not one of auto, limited, never'],
    ["transfer.up = 0", "transfer.up: 0 is not a rate above zero"],
    ["transfer.down = { prefetch = 0 }", "transfer.down"],
    ["transfer.down = { jobs = 5 }", "unknown key transfer.down.jobs"],
  ] as const) {
    const error = await refused(() => loadToml(home, toml));
    assert.is(error.exit, 2);
    assert.ok(error.message.startsWith(message) && !error.message.includes("\n"), error.message);
  }
});

test("a check misses a source only where there is neither an origin nor a way to find peers", async ({ home }) => {
  const sourceless = async (toml: string) =>
    (await checkSettings(await loadToml(home, toml))).some(({ key }) => key === "origin");
  const bootstrap = "node.bootstrap = ['/ip4/10.0.0.1/tcp/7070']\n";
  const folder = "[[origin]]\nkind = 'folder'\npath = '/o'\n";
  for (const source of ["node.mdns = true\n", `node.mdns = false\n${bootstrap}`, `node.mdns = false\n${folder}`]) {
    assert.not(await sourceless(source), source);
  }
  for (const none of [
    "node.mdns = false\n",
    "transfer.peers = 'never'\n",
    `node.mdns = false\n${folder}policy = 'never'`,
  ]) {
    assert.ok(await sourceless(none), none);
  }
});

test("every key is described for people", () => {
  const keys = settingKeys();
  assert.is(new Set(keys.map(({ key }) => key)).size, keys.length);
  assert.is(keys.filter(({ key }) => !key.startsWith("origin.")).length, 40);
  for (const { key, description, defaultText, expected } of keys) {
    assert.match(description, /\.$/, key);
    assert.ok(defaultText.length > 0 && expected.noun.length > 0 && expected.example.length > 0, key);
  }
});

test.run();
