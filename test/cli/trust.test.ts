import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Ended, errorIn, p2pcache } from "../support/command-line.ts";

const test = suite<{ home: string; run: (words: string, ...more: string[]) => Promise<Ended> }>(
  "trust, as it is typed",
);
test.before.each((context) => {
  const home = mkdtempSync(join(tmpdir(), "p2pcache-trust-"));
  mkdirSync(join(home, "origin"));
  const lines = [
    '[network]\nname = "test"',
    `[node]\nstate = "${home}/state"`,
    `[cache]\npath = "${home}/cache"`,
    `[[origin]]\nkind = "folder"\npath = "${home}/origin"`,
  ];
  writeFileSync(join(home, "config.toml"), lines.join("\n"));
  context.home = home;
  context.run = (words, ...more) => p2pcache([...words.split(" "), ...more, "--config", join(home, "config.toml")]);
});
test.after.each(({ home }) => rmSync(home, { recursive: true }));

test("a policy is begun, changed, shown and verified, and its keys are listed", async ({ home, run }) => {
  const begun = await run("trust init");
  assert.is(begun.code, 0, begun.stderr);
  assert.match(begun.stdout, `made ${home}/state/keys/policy/root.pem`);
  assert.is(statSync(join(home, "state/keys/policy/root.pem")).mode & 0o777, 0o600);
  const key = (await run("key gen")).stdout.trim();
  assert.is((await run("trust add-publisher", key, "--names", "studio:rig_*", "--label", "Rigging")).code, 0);
  assert.is((await run("trust add-member lyon 12D3KooWx --label farm --until 2027-01-31")).code, 0);
  assert.is((await run(`trust deny payload:${"ab".repeat(32)} --by ana --reason miner`)).code, 0);
  const shown = JSON.parse((await run("trust show --json")).stdout);
  assert.is(shown.schema, "p2pcache/trust-show/1");
  assert.is(shown.state, "in-force");
  assert.equal([shown.publishers[0].names, shown.publishers[0].label], [["studio:rig_*"], "Rigging"]);
  const member = { site: "lyon", peer: "12D3KooWx", labels: ["farm"], until: "2027-01-31T00:00:00.000Z" };
  assert.equal(shown.members, [member]);
  assert.is(shown.denied[0].by, "ana");
  assert.is((await run(`trust allow payload:${"ab".repeat(32)}`)).code, 0);
  assert.equal(JSON.parse((await run("trust show --json")).stdout).denied, []);
  assert.is((await run(`trust allow payload:${"ab".repeat(32)}`)).code, 3);
  assert.match((await run("trust show")).stdout, "publisher ");
  const verified = await run("trust verify");
  assert.equal([verified.code, verified.stdout.includes("in order until")], [0, true], verified.stderr);
  const listed = JSON.parse((await run("key list --json")).stdout);
  assert.equal(
    listed.keys.map(({ name }: { name: string }) => name),
    ["online", "root", "targets"],
  );
  assert.match((await run("key rotate online")).stdout, "signed root 2");
  assert.is((await run("trust revoke-publisher", shown.publishers[0].keyid.slice(0, 8), "--reason", "stolen")).code, 0);
  assert.match((await run("trust show")).stdout, /revoked .* stolen/);
});

test("what lies at the origin and is not what was signed ends with exit 5", async ({ home, run }) => {
  await run("trust init");
  const path = join(home, "origin/policy/timestamp.json");
  writeFileSync(path, readFileSync(path, "utf8").replace('"version": 2', '"version": 9'));
  const verified = await run("trust verify --json");
  assert.equal([verified.code, errorIn(verified).code], [5, "POLICY_UNSIGNED"]);
});

test("a reset takes the root that it is told, and writes down that it did", async ({ home, run }) => {
  assert.equal([(await run("trust show")).code, (await run("trust reset")).code], [3, 2]);
  await run("trust init");
  const reset = await run("trust reset --json --root", join(home, "origin/policy/1.root.json"));
  assert.is(reset.code, 0, reset.stderr);
  const { version, sha256, log } = JSON.parse(reset.stdout);
  assert.is(version, 1);
  assert.is(JSON.parse(readFileSync(log, "utf8")).sha256, sha256);
  assert.is(JSON.parse((await run("trust show --json")).stdout).state, "not-followed");
  assert.is((await run("trust reset --first-contact")).code, 0);
});

test("bad words are usage errors", async ({ run }) => {
  await run("trust init");
  const words = [
    "trust delegate everything ed25519:x",
    "trust add-publisher not-a-key",
    "trust add-member ../lyon 12D3KooWx",
    "trust add-member lyon 12D3KooWx --until never",
    "trust add-member lyon no/peer",
    "trust init --threshold 0",
    "trust sign /nowhere/draft.json",
    "key rotate nobody",
  ];
  for (const each of words) assert.is((await run(each)).code, 2, each);
});

test.run();
