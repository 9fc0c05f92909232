// runs unprivileged
// deadline: 180 s
// mostly waits
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, Machine, p2pcache } from "../support/command-line.ts";
import { needs } from "../support/needs.ts";
import { Nginx } from "../support/nginx.ts";
import { logged } from "../support/node-log.ts";
import { packageTree } from "../support/package-trees.ts";
import { kill, type RunningNode } from "../support/studio.ts";
import { listTree } from "../support/trees.ts";

/** What admins may limit, with real processes: what a site takes of an origin, and what a class of fetches takes of the link. */

const mib = 1024 * 1024;

if (needs("nginx", "nginx-light")) {
  test("two nodes that fetch at once keep to the rate of a limited origin, by its server's own log", async () => {
    await using machine = await Machine.open();
    const { studio } = machine;
    const source = packageTree(machine, "foo", { largeMib: 8 });
    await machine.run(["publish", "foo-1.0.0"]);
    const http = 'log_format reads "$msec $body_bytes_sent $uri";';
    await using nginx = await Nginx.open({
      root: join(studio.path, "origin"),
      http,
      server: "access_log reads.log reads;",
    });
    const limits = 'policy = "limited"\nslots = 2\nrate = "2 MB/s"';
    const origin = `[[origin]]\nname = "web"\nkind = "http"\nurl = "${nginx.url}"\n${limits}`;
    const first = await studio.start(studio.configure("one", { origin }));
    const second = await studio.start(studio.configure("two", { origin, bootstrap: first.addresses }));
    await logged(first, "peer-joined");
    await logged(second, "peer-joined");
    for (const result of await Promise.all([fetchFoo(first), fetchFoo(second)])) {
      assert.is(result.outcome, "fetched", JSON.stringify(result.error));
      assert.equal(listTree(result.path!), listTree(source));
    }
    const reads = readFileSync(nginx.file("reads.log"), "utf8").trimEnd().split("\n").flatMap(readOf);
    const total = reads.reduce((sum, { bytes }) => sum + bytes, 0);
    assert.ok(total >= 8 * mib, `${total} bytes were read`);
    // What is read is paid for before, so there is no burst but what the clocks of a busy machine make of it.
    for (const [i, from] of reads.entries()) {
      let bytes = 0;
      for (const read of reads.slice(i)) {
        bytes += read.bytes;
        const allowed = ((read.atMs - from.atMs) * 2e6) / 1000 + 2 * 2 * mib;
        assert.ok(bytes <= allowed, `${bytes} bytes in ${read.atMs - from.atMs} ms`);
      }
    }
    const tookMs = reads.at(-1)!.atMs - reads[0]!.atMs;
    assert.ok(total / tookMs <= 2_500, `${total} bytes in ${tookMs} ms`);
    for (const node of [first, second]) await kill(node, "SIGTERM");
  });
}

test("a fetch of a class takes as long as its rate, another class does not, and a reload changes it", async () => {
  await using machine = await Machine.open();
  for (const name of ["foo", "goo", "zoo"]) packageTree(machine, name, { largeMib: 10 });
  for (const name of ["foo", "goo", "zoo"]) await machine.run(["publish", `${name}-1.0.0`]);
  const written = readFileSync(machine.config, "utf8");
  const rates = (rate: string) =>
    writeFileSync(machine.config, `${written}\n[transfer]\ndown = { prefetch = "${rate}" }\n`);
  rates("1 MB/s");
  const node = await machine.studio.start(machine.config);
  const seconds = async (name: string, ...words: string[]) => {
    const { code, out } = await machine.json(["fetch", `${name}-1.0.0`, ...words]);
    assert.is(code, 0);
    return (out as { variants: { seconds: number }[] }).variants[0]!.seconds;
  };
  // What is more than a burst of 4 MiB comes at the rate, but for the last item, of up to 2 MiB, which may be borrowed.
  const slow = seconds("foo", "--class=prefetch");
  const quick = await seconds("goo");
  assert.ok((await slow) >= 4, `${await slow} s`);
  assert.ok(quick < (await slow), `${quick} s`);
  rates("1 GB/s");
  node.process.kill("SIGHUP");
  assert.equal((await logged(node, "settings-reloaded")).changed, ["transfer.down"]);
  const freed = await seconds("zoo", "--class=prefetch");
  assert.ok(freed < 4, `${freed} s`);
  await kill(node, "SIGTERM");
});

test("a peer sends a class at the rate that it has for it, and another class as fast as it can", async () => {
  await using machine = await Machine.open();
  const { studio } = machine;
  for (const name of ["foo", "goo"]) packageTree(machine, name, { largeMib: 10 });
  await machine.run(["publish", "foo-1.0.0", "goo-1.0.0"]);
  const holder = studio.configure("holder", { more: '[transfer]\nup = { job_start = "1 MB/s" }' });
  const one = await studio.start(holder);
  for (const name of ["foo", "goo"])
    assert.is((await p2pcache(["fetch", `${name}-1.0.0`, "--config", holder])).code, 0);
  const asking = studio.configure("asking", { bootstrap: one.addresses, originPolicy: "never" });
  const other = await studio.start(asking);
  const seconds = async (name: string, ...words: string[]) => {
    const { stdout, stderr } = await p2pcache(["fetch", `${name}-1.0.0`, "--json", "--config", asking, ...words]);
    const [fetched] = (JSON.parse(stdout) as { variants: { seconds: number; bytes: { peers: number } }[] }).variants;
    assert.ok(fetched!.bytes.peers > 8 * mib, stderr);
    return fetched!.seconds;
  };
  const slow = await seconds("foo", "--class=job-start");
  const quick = await seconds("goo");
  assert.ok(slow >= 4, `${slow} s`);
  assert.ok(quick < slow, `${quick} s`);
  for (const node of [one, other]) await kill(node, "SIGTERM");
});

test("who wants the same more urgently hurries it", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo", { largeMib: 8 });
  await machine.run(["publish", "foo-1.0.0"]);
  const written = readFileSync(machine.config, "utf8");
  writeFileSync(machine.config, `${written}\n[transfer]\ndown = { repair = "10 kB/s" }\n`);
  const node = await machine.studio.start(machine.config);
  const patient = machine.run(["fetch", "foo-1.0.0", "--class", "repair"]);
  await underWay(node);
  const urgent = await machine.run(["fetch", "foo-1.0.0", "--timeout", "20 s"]);
  assert.equal([urgent.code, (await patient).code], [0, 0], urgent.stderr);
  await kill(node, "SIGTERM");
});

test("a class that there is not: exit 2, and which there are", async () => {
  const ended = await p2pcache(["fetch", "studio:foo-1.0.0", "--class", "urgent", "--json"]);
  const { code, exit, message } = errorIn(ended);
  assert.equal([ended.code, code, exit], [2, "USAGE", 2]);
  assert.match(message, '--class: "urgent" is not one of interactive, job-start, prefetch, repair');
});

test("--origin limited keeps a node that is configured otherwise within its budget", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo", { largeMib: 4 });
  await machine.run(["publish", "foo-1.0.0"]);
  const written = readFileSync(machine.config, "utf8");
  writeFileSync(machine.config, written.replace('policy = "auto"', 'policy = "auto"\nrate = "1 kB/s"'));
  const node = await machine.studio.start(machine.config);
  const limited = await machine.run(["fetch", "foo-1.0.0", "--origin", "limited", "--timeout", "2 s"]);
  assert.is(limited.code, 6);
  assert.match(limited.stderr, "the origin filer is limited, and this node has used up its part of the rate");
  assert.is((await machine.run(["fetch", "foo-1.0.0"])).code, 0);
  await kill(node, "SIGTERM");
});

test.run();

async function fetchFoo(node: RunningNode) {
  const variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" } as const;
  const [result] = await node.client.fetch({ things: [{ kind: "variant", variant }] }, () => undefined, {});
  return result!;
}

/** Waits until a node transfers something. */
async function underWay({ client }: RunningNode): Promise<void> {
  const untilMs = performance.now() + 20_000;
  while (((await client.status()).transfers as unknown[]).length === 0) {
    assert.ok(performance.now() < untilMs, "something is transferred");
  }
}

/** A chunk in the server's log; nothing for what is no chunk. */
function readOf(line: string): { atMs: number; bytes: number }[] {
  const [seconds, bytes, path] = line.split(" ");
  return path?.startsWith("/chunks/") ? [{ atMs: Number(seconds) * 1000, bytes: Number(bytes) }] : [];
}
