import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { tcpAddress } from "../../../node/doctor/addresses.ts";
import { checkPeerClocks, clockLine } from "../../../node/doctor/clock.ts";
import { runJob } from "../../../node/doctor/job-child.ts";
import { isRemote, parseMounts } from "../../../node/doctor/mounts.ts";
import { parseRezSettings } from "../../../node/doctor/rez.ts";

const test = suite<{ folder: string }>("parts of doctor");
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "p2pcache-doctor-"));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

test("Rez's settings are read from Python, YAML and JSON, and what would have to be computed is not guessed", () => {
  const expected = { cache_packages_path: "/sw/cache", read_package_cache: false, package_cache_max_variant_days: 7 };
  for (const text of [
    'cache_packages_path = "/sw/cache"  # local disk\nread_package_cache = False\npackage_cache_max_variant_days = 7\n',
    "cache_packages_path: /sw/cache\nread_package_cache: false\npackage_cache_max_variant_days: 7\nother: [1]\n",
    '{\n  "cache_packages_path": "/sw/cache",\n  "read_package_cache": false,\n  "package_cache_max_variant_days": 7\n}',
  ]) {
    assert.equal(Object.fromEntries(parseRezSettings(text)), expected);
  }
  assert.is(parseRezSettings("cache_packages_path: null").get("cache_packages_path"), undefined);
  assert.is(typeof parseRezSettings(`cache_packages_path = os.environ["X"]`).get("cache_packages_path"), "symbol");
});

test("mounts are read with their escapes, types and both kinds of options", () => {
  const line = String.raw`40 29 0:33 / /mnt/my\040disk rw,noexec,relatime shared:1 - fuse.sshfs host:/x ro,user_id=0`;
  const [mount] = parseMounts(`${line}\nnonsense\n`);
  assert.equal([mount?.path, mount?.type], ["/mnt/my disk", "fuse.sshfs"]);
  assert.ok(mount?.options.has("noexec") && mount.options.has("ro"));
  assert.ok(isRemote(mount!));
  assert.not(isRemote({ ...mount!, type: "ext4" }));
});

test("of an address only plain TCP is tried", () => {
  assert.equal(tcpAddress("/ip4/192.0.2.1/tcp/4001/p2p/12D3"), { host: "192.0.2.1", port: 4001 });
  assert.equal(tcpAddress("/dns4/host.example/tcp/1"), { host: "host.example", port: 1 });
  for (const other of ["/ip4/192.0.2.1/udp/4001/quic-v1", "/unix/x", "", "/ip4//tcp/1"]) {
    assert.is(tcpAddress(other), undefined);
  }
});

test("a clock is told apart by how far it is off, and in which direction", () => {
  const nowMs = 1_800_000_000_000;
  assert.is(clockLine("filer", nowMs - 29_000, nowMs).level, "ok");
  const ahead = clockLine("filer", nowMs - 45_000, nowMs);
  assert.equal([ahead.level, /45 s ahead of that of filer/.test(ahead.message)], ["warning", true]);
  const behind = clockLine("filer", nowMs + 365 * 86_400_000, nowMs);
  assert.equal([behind.level, /365 days behind/.test(behind.message)], ["failure", true]);
});

test("of several peers the many are believed, and the few are named", () => {
  const peers = [0, 5_000, -2_000, 90_000].map((clockAheadMs, i) => ({ name: `ws0${i}`, clockAheadMs }));
  const nowMs = 1_800_000_000_000;
  const [few, ...more] = [...checkPeerClocks(peers, nowMs)];
  assert.equal([few?.level, few?.message, more], ["warning", "the clock of the peer ws03 is 90 s ahead of ours", []]);
  const all = peers.map((peer) => ({ ...peer, clockAheadMs: peer.clockAheadMs + 60_000 }));
  assert.match(
    [...checkPeerClocks(all, nowMs)][0]!.message,
    "this machine's clock is 65 s behind that of most of 4 peers",
  );
  assert.equal([...checkPeerClocks([], nowMs)], []);
});

test("a job whose process ends, or does nothing, is a failure that names what it was about", async ({ folder }) => {
  const scripts = {
    ends: "process.exit(3);",
    waits: 'process.on("message", () => process.send({ kind: "begin", check: "inner" }));',
  };
  for (const [name, text] of Object.entries(scripts)) writeFileSync(join(folder, `${name}.mjs`), text);
  const url = (name: string) => pathToFileURL(join(folder, `${name}.mjs`));
  const gone = await runJob(url("ends"), { name: "outer", work: {} }, 10_000);
  assert.equal([gone.lines[0]?.check, gone.lines[0]?.level], ["outer", "failure"]);
  assert.match(gone.lines[0]!.message, "ended before it had answered");
  const late = await runJob(url("waits"), { name: "outer", work: {} }, 1_500);
  assert.equal([late.lines[0]?.check, late.lines[0]?.level], ["inner", "failure"]);
  assert.match(late.lines[0]!.message, "nothing answered within 1.5 s");
});

test.run();
