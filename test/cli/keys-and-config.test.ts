import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Ended, errorIn, p2pcache } from "../support/command-line.ts";
import { Studio } from "../support/studio.ts";

const test = suite<{ home: string }>("keys and configuration");
test.before.each((context) => {
  context.home = mkdtempSync(join(tmpdir(), "p2pcache-keys-"));
});
test.after.each(({ home }) => rmSync(home, { recursive: true }));

test("key gen makes a key once, and key show prints what gen printed", async ({ home }) => {
  const key = join(home, "publisher.pem");
  const made = await p2pcache(["key", "gen", "--key", key]);
  assert.is(made.code, 0);
  assert.match(made.stdout, /^ed25519:[A-Za-z0-9+/]{43}=\n$/);
  assert.is(statSync(key).mode & 0o777, 0o600);
  const shown = await p2pcache(["key", "show", "--key", key, "--json"]);
  const { schema, path, publicKey, keyid } = JSON.parse(shown.stdout);
  assert.equal([schema, path, `${publicKey}\n`], ["p2pcache/key-show/1", key, made.stdout]);
  assert.match(keyid, /^[0-9a-f]{64}$/);
  const again = await p2pcache(["key", "gen", "--key", key, "--json"]);
  assert.equal([again.code, errorIn(again).code], [2, "KEY_EXISTS"]);
});

test("key show says how to make a key where there is none", async ({ home }) => {
  const { code, stdout, stderr } = await p2pcache(["key", "show", "--key", join(home, "none.pem")]);
  assert.is(code, 2);
  assert.is(stdout, "");
  assert.match(stderr, "p2pcache key gen");
});

test("key network writes a key that nobody else may read, where it is told to", async ({ home }) => {
  const path = join(home, "network.key");
  const { code, stdout } = await p2pcache(["key", "network", path]);
  assert.is(code, 0);
  assert.is(stdout, `${path}\n`);
  assert.is(statSync(path).mode & 0o777, 0o600);
  assert.match(readFileSync(path, "utf8"), /^p2pcache-network-key:/);
});

test("node id makes the node's key once", async ({ home }) => {
  const words = ["node", "id", "--state", join(home, "state")];
  const [first, second] = [await p2pcache(words), await p2pcache(words)];
  assert.match(first.stdout, /^12D3Koo\w+\n$/);
  assert.is(second.stdout, first.stdout);
});

test("config show prints every setting, and with --origin where it comes from", async ({ home }) => {
  const config = join(home, "config.toml");
  writeFileSync(config, '[network]\nname = "studio"\n');
  const env = { P2PCACHE_NODE__SITE: "berlin" };
  const shown = await p2pcache(["config", "show", "--config", config], { env });
  assert.match(shown.stdout, '\nnode.site = "berlin"\n');
  const { stdout } = await p2pcache(["config", "show", "--origin", "--config", config, "--peers=never"], { env });
  assert.match(stdout, `network.name = "studio"  # ${config}`);
  assert.match(stdout, 'node.site = "berlin"  # environment');
  assert.match(stdout, 'transfer.peers = "never"  # flag');
  const json = JSON.parse((await p2pcache(["config", "show", "--json", "--config", config], { env })).stdout);
  assert.is(json.schema, "p2pcache/config/1");
  assert.equal(
    json.settings.find(({ key }: { key: string }) => key === "node.site"),
    { key: "node.site", value: "berlin" },
  );
});

test("config check is silent about what is in order, and exits 2 for what keeps a node from running", async ({
  home,
}) => {
  await using studio = await Studio.open();
  const good = await p2pcache(["config", "check", "--config", studio.configure("machine")]);
  assert.equal(good, { code: 0, stdout: "", stderr: "" });
  const config = join(home, "config.toml");
  writeFileSync(config, '[network]\nname = "studio"\n');
  const bad = await p2pcache(["config", "check", "--config", config]);
  assert.is(bad.code, 2);
  assert.match(bad.stdout, "error: network.admission: ");
  writeFileSync(config, '[network]\nnmae = "studio"\n');
  const unknown = await p2pcache(["config", "check", "--config", config]);
  assert.is(unknown.code, 2);
  assert.match(unknown.stderr, "network.nmae");
  writeFileSync(config, '[network]\nname = "studio"\nadmission = "members"\n');
  const members = await p2pcache(["config", "check", "--config", config]);
  assert.is(members.code, 2);
  assert.match(members.stdout, "no policy that names them");
});

test("config check says each risk once", async ({ home }) => {
  const config = join(home, "config.toml");
  writeFileSync(config, '[network]\nname = "studio"\nadmission = "open"\n[node]\nencryption = "off"\n');
  const times = ({ stdout, stderr }: Ended) => `${stdout}${stderr}`.split("node.encryption is off").length - 1;
  const words = ["config", "check", "--config", config];
  const [plain, quiet] = [await p2pcache(words), await p2pcache([...words, "--quiet"])];
  assert.equal([plain.code, times(plain), times(quiet)], [0, 1, 1]);
  assert.match((await p2pcache([...words, "--json"])).stdout, "node.encryption is off");
});

test.run();
