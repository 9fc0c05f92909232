import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadSettings } from "../../node/settings/load.ts";
import { checkSettings } from "../../node/settings/show.ts";
import { settingKeys } from "../../node/settings/table.ts";
import { type Ended, errorIn, p2pcache } from "../support/command-line.ts";

const test = suite<{ home: string }>("init");
test.before.each((context) => {
  // Short, since sockets lie below it.
  context.home = mkdtempSync(join(tmpdir(), "p2p-i-"));
  for (const name of ["packages", "origin"]) mkdirSync(join(context.home, name));
});
test.after.each(({ home }) => rmSync(home, { recursive: true }));

function init(home: string, ...words: string[]): Promise<Ended> {
  const places = { HOME: home, XDG_RUNTIME_DIR: join(home, "run"), P2PCACHE_CONFIG: "" };
  const xdg = { XDG_CONFIG_HOME: "", XDG_STATE_HOME: "", XDG_CACHE_HOME: "" };
  return p2pcache(["init", ...words], { env: { ...places, ...xdg } });
}

const usual = (home: string) => [
  `--repository=studio=${home}/packages`,
  `--origin-path=${home}/origin`,
  `--cache=${home}/cache`,
];

test("a configuration and keys that a node runs with are written, and nothing is left to warn about", async ({
  home,
}) => {
  const ended = await init(home, ...usual(home), "--publisher");
  assert.equal([ended.code, /warning/.test(ended.stderr)], [0, false], ended.stderr);
  const config = join(home, ".config/p2pcache/config.toml");
  const network = join(home, ".config/p2pcache/network.key");
  const publisher = join(home, ".local/state/p2pcache/keys/publisher.pem");
  const [first, second, third, fourth] = ended.stdout.split("\n");
  assert.equal(
    [first, second, third],
    [`configuration: ${config}`, `network key: ${network} (made)`, `publisher's key: ${publisher} (made)`],
  );
  assert.match(fourth!, /^public key: ed25519:/);
  for (const key of [network, publisher]) assert.is(statSync(key).mode & 0o777, 0o600);
  assert.match(ended.stderr, /p2pcache init --network studio --network-key network\.key --trust ed25519:/);
  const loaded = loadSettings({ flags: { config }, env: { HOME: home, XDG_RUNTIME_DIR: join(home, "run") } });
  assert.equal(loaded.warnings, []);
  assert.equal(await checkSettings(loaded), []);
  const { settings } = loaded;
  assert.equal(
    [settings.network.name, settings.cache.path, settings.repositories.get("studio")],
    ["studio", join(home, "cache"), join(home, "packages")],
  );
  assert.equal([settings.publish.keyFile, settings.trust.publishers.length], [publisher, 1]);
});

test("every key stands in it with what it means, those that were not chosen as comments", async ({ home }) => {
  const config = join(home, "c.toml");
  await init(home, `--config=${config}`, ...usual(home));
  const lines = readFileSync(config, "utf8").split("\n");
  for (const { key, description } of settingKeys()) {
    if (key === "origin") continue;
    assert.ok(lines.includes(`# ${description}`), key);
    const name = key === "repositories.<id>" ? "studio" : key.slice(key.indexOf(".") + 1);
    assert.ok(
      lines.some((line) => line.replace(/^# /, "").startsWith(`${name} =`)),
      key,
    );
  }
  // Without their hash, lines with a default are as good as those that hold.
  const uncommented = lines.map((line) => (/^# \w+ = /.test(line) ? line.slice(2) : line)).join("\n");
  writeFileSync(config, uncommented);
  loadSettings({ flags: { config }, env: { HOME: home, XDG_RUNTIME_DIR: join(home, "run") } });
});

test("what is there is never written over without --force, and keys not even then", async ({ home }) => {
  const config = join(home, "c.toml");
  const words = [`--config=${config}`, ...usual(home), "--publisher"];
  await init(home, ...words);
  const [before, key] = [readFileSync(config, "utf8"), readFileSync(join(home, "network.key"), "utf8")];
  const refused = await init(home, ...words, "--network=other", "--json");
  assert.equal([refused.code, errorIn(refused).code], [2, "CONFIG_EXISTS"]);
  assert.is(readFileSync(config, "utf8"), before);
  const forced = await init(home, ...words, "--network=other", "--force", "--json");
  assert.is(forced.code, 0);
  const { schema, networkKey, publisherKey } = JSON.parse(forced.stdout);
  assert.equal([schema, networkKey.outcome, publisherKey.outcome], ["p2pcache/init/1", "found", "found"]);
  assert.is(readFileSync(join(home, "network.key"), "utf8"), key);
  assert.is(readFileSync(config, "utf8"), before.replace('name = "studio"', 'name = "other"'));
});

test("the next machine takes the network's key and trusts the publisher", async ({ home }) => {
  const first = await init(home, `--config=${home}/a.toml`, ...usual(home), "--publisher", "--json");
  const { networkKey, publisherKey } = JSON.parse(first.stdout);
  const words = [`--config=${home}/b/b.toml`, ...usual(home), `--network-key=${networkKey.path}`];
  const next = await init(home, ...words, `--trust=${publisherKey.publicKey}`, "--json");
  assert.equal([next.code, JSON.parse(next.stdout).problems], [0, []]);
  assert.not(existsSync(join(home, "b/network.key")));
});

test("what would be refused is refused before anything is written", async ({ home }) => {
  const config = join(home, "new", "c.toml");
  const exposed = join(home, "exposed.key");
  writeFileSync(exposed, "p2pcache-network-key:AAAA\n");
  chmodSync(exposed, 0o644);
  for (const words of [
    ["--network=not a name"],
    ["--repository=studio"],
    ["--trust=ed25519:AAAA"],
    ["--network-key=/nonexistent/key"],
    [`--network-key=${exposed}`],
    [`--origin-path=${home}/origin`, "--origin-url=http://localhost/"],
    ["--origin-url=ftp://localhost/"],
    ["--origin-url=https://user:password@localhost/"],
  ]) {
    const ended = await init(home, `--config=${config}`, ...words, "--publisher");
    assert.is(ended.code, 2, words.join(" "));
    assert.not(existsSync(config));
    assert.not(existsSync(join(home, "new", "network.key")));
    assert.not(existsSync(join(home, ".local")));
  }
});

test("an address with a password in it is refused without showing it, since everybody may read a configuration", async ({
  home,
}) => {
  const config = join(home, "c.toml");
  for (const user of ["u:pw4711", "u:p@pw4711", "pw4711", ":pw4711"]) {
    const ended = await init(home, `--config=${config}`, `--origin-url=https://${user}@packages.example/p2p`);
    assert.equal([ended.code, existsSync(config)], [2, false], user);
    assert.match(ended.stderr, "credentials_file");
    assert.not.match(ended.stderr, "pw4711");
  }
});

test("a repository that is not there is warned about, and the configuration is written", async ({ home }) => {
  const ended = await init(home, `--config=${home}/c.toml`, `--repository=studio=${home}/elsewhere`);
  assert.match(ended.stderr, /warning: repositories\.studio: /);
  assert.ok(existsSync(join(home, "c.toml")));
});

test.run();
