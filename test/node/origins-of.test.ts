// runs unprivileged

import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../node/clock.ts";
import { CacheNode } from "../../node/node.ts";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { OriginsInUse } from "../../node/origins-in-use.ts";
import { OriginSet } from "../../node/origins-of.ts";
import { loadSettings } from "../../node/settings/load.ts";
import type { OriginSettings, Settings } from "../../node/settings/schema.ts";
import { DeadlineError } from "../../protocol/errors.ts";
import { parseChunkHash } from "../../protocol/hash.ts";
import { childrenOf, until } from "../support/child-processes.ts";
import { noise } from "../support/noise.ts";
import { emptyRepository } from "../support/served-folder.ts";
import { isForChunk, StaticServer } from "../support/static-server.ts";
import { Studio } from "../support/studio.ts";
import { failureOf } from "../support/swarm-member.ts";

const hash = parseChunkHash("ab".repeat(32));

test("origins are asked in their order, each says how it does, and those never asked say so", async () => {
  const root = emptyRepository();
  const folder = await FolderRepository.open({ name: "filer", path: root, network: "studio", publishes: true });
  await folder.putChunk(hash, noise(1, 10));
  await using server = await StaticServer.open(root);
  const common = { policy: "auto", slots: undefined, rateBytesPerSecond: undefined } as const;
  const http = { ...common, kind: "http", caFile: undefined, credentialsFile: undefined } as const;
  const settings = settingsWith([
    { ...http, name: "gone", url: `http://127.0.0.1:${await closedPort()}` },
    { ...http, name: "web", url: server.url },
    { ...common, kind: "folder", name: "filer", path: root, inPlace: false, policy: "never" },
  ]);
  const events: unknown[] = [];
  const log = (level: string, event: string, facts: object = {}) => void events.push([level, event, facts]);
  {
    await using set = await OriginSet.open(settings, { network: "studio", clock: systemClock, random: () => 0, log });
    assert.equal(set.status(), [
      { name: "gone", state: "untried" },
      { name: "web", state: "untried" },
      { name: "filer", state: "never" },
    ]);
    const [gone, web] = set.origins;
    assert.equal([gone!.name, web!.name, set.origins.length], ["gone", "web", 2]);
    assert.is((await web!.chunk(hash, 10)).length, 10);
    for (let i = 0; i < 3; i++) await failureOf(gone!.chunk(hash, 10));
    const [first, second] = set.status();
    assert.equal([first!.state, second], ["down", { name: "web", state: "ok" }]);
    assert.match(first!.reason!, /^the origin gone cannot be used: .* refuses connections/);
    assert.equal(
      events.map((event) => (event as string[]).slice(0, 2)),
      [
        ["info", "origin-ok"],
        ["warn", "origin-unsteady"],
        ["warn", "origin-down"],
      ],
    );
    assert.ok(server.connections > 0);
  }
  rmSync(root, { recursive: true });
});

test("an origin is within its budget where that is configured, and can be asked within it where it is not", async () => {
  const root = emptyRepository();
  const folder = await FolderRepository.open({ name: "filer", path: root, network: "studio", publishes: true });
  await folder.putChunk(hash, noise(1, 10));
  const common = { kind: "folder", path: root, inPlace: false, slots: 1, rateBytesPerSecond: undefined } as const;
  const settings = settingsWith([
    { ...common, name: "free", policy: "auto" },
    { ...common, name: "bound", policy: "limited" },
    { ...common, name: "shut", policy: "never" },
  ]);
  const crowd = () => ({ self: "me", members: Array.from({ length: 100_000 }, (_, i) => `m${i}`) });
  const parts = { network: "studio", clock: systemClock, random: () => 0, log: () => undefined, crowd };
  {
    await using set = await OriginSet.open(settings, parts);
    const [free, bound] = set.origins;
    assert.equal([set.origins.length, set.limited.length, set.limited[1]], [2, 2, bound]);
    assert.is((await free!.chunk(hash, 10)).length, 10);
    for (const limited of set.limited) assert.is((await failureOf(limited.chunk(hash, 10))).code, "ORIGIN_LIMITED");
    const explained = (await set.explained(new DeadlineError("not done"))) as Error;
    assert.match(
      explained.message,
      "not done: the origin free is limited to 1 node at a time: others have their turn;",
    );
    assert.equal(set.status()[1], { name: "bound", state: "untried" }, "a turn that is not ours says nothing of it");
  }
  rmSync(root, { recursive: true });
});

test("certificates that cannot be read keep a node from starting, and are named", async () => {
  const origin = {
    name: "web",
    policy: "auto",
    slots: undefined,
    rateBytesPerSecond: undefined,
    kind: "http",
  } as const;
  const settings = settingsWith([
    { ...origin, url: "https://x", caFile: "/nowhere/ca.pem", credentialsFile: undefined },
  ]);
  const opened = OriginSet.open(settings, {
    network: "studio",
    clock: systemClock,
    random: () => 0,
    log: () => undefined,
  });
  const error = await failureOf(opened);
  assert.equal([error.exit, error.message.includes("/nowhere/ca.pem")], [2, true]);
});

test("a reload takes other origins into use, and the old ones are asked no more", async () => {
  await using studio = await Studio.open();
  const published = async (name: string) => {
    const tree = join(studio.path, "packages", name);
    mkdirSync(tree, { mode: 0o755 });
    writeFileSync(join(tree, "file"), name);
    const variant = { kind: "rez", repository: "studio", name } as const;
    await studio.publish(variant, tree);
    return { kind: "variant", variant } as const;
  };
  await using before = await StaticServer.open(join(studio.path, "origin"));
  await using after = await StaticServer.open(join(studio.path, "origin"));
  const settings = (name: string, { url }: StaticServer) =>
    studio.settings(studio.configure("m", { origin: `[[origin]]\nname = "${name}"\nkind = "http"\nurl = "${url}"` }));
  await using node = await CacheNode.open(settings("before", before));
  await node.fetch(await published("one"));
  await node.reconfigure(settings("after", after));
  const asked = before.asked.length;
  assert.is((await node.fetch(await published("two"))).outcome, "fetched");
  assert.equal([before.asked.length, node.status("0").origins], [asked, [{ name: "after", state: "ok" }]]);
});

test("a fetch whose only origin wants to be left alone asks it once, and ends with what it said", async () => {
  await using studio = await Studio.open();
  const tree = join(studio.path, "packages", "one");
  mkdirSync(tree, { mode: 0o755 });
  writeFileSync(join(tree, "file"), "one");
  const variant = { kind: "rez", repository: "studio", name: "one" } as const;
  await studio.publish(variant, tree);
  await using server = await StaticServer.open(join(studio.path, "origin"));
  server.misbehave = (request, response) => {
    if (isForChunk(request)) response.writeHead(503, { "retry-after": "30" }).end();
    return isForChunk(request);
  };
  const origin = `[[origin]]\nname = "web"\nkind = "http"\nurl = "${server.url}"`;
  await using node = await CacheNode.open(studio.settings(studio.configure("m", { origin })));
  const error = await failureOf(node.fetch({ kind: "variant", variant }, { timeoutMs: 4_000 }));
  assert.equal([error.code, error.exit], ["DEADLINE", 6]);
  assert.match(error.message, "asks to be left alone for 30 s");
  assert.is(server.asked.filter((each) => each.includes("/chunks/")).length, 1);
});

test("a reload lets go of the origins of before, also of new ones when it is refused", async () => {
  await using studio = await Studio.open();
  const settings = studio.settings(studio.configure("m"));
  await using node = await CacheNode.open(settings);
  for (let i = 0; i < 3; i++) await node.reconfigure(settings);
  const broken = new Map(settings.repositories);
  broken.values = () => {
    throw new Error("the mounts cannot be read");
  };
  assert.match((await failureOf(node.reconfigure({ ...settings, repositories: broken }))).message, "mounts");
  await until("one child reads", () => childrenOf(process.pid, "folder-child").length === 1);
});

test("origins that a reload replaced are let go of once the transfers that use them have landed", async () => {
  const closed: string[] = [];
  const parts = { network: "studio", clock: systemClock, random: () => 0, log: () => undefined };
  const setOf = async (name: string) => {
    const set = await OriginSet.open(settingsWith([]), parts);
    set[Symbol.asyncDispose] = async () => void closed.push(name);
    return set;
  };
  const [first, second, third] = await Promise.all(["first", "second", "third"].map(setOf));
  const landed = Promise.withResolvers<void>();
  {
    await using inUse = new OriginsInUse(first!);
    inUse.replace(second!, landed.promise);
    inUse.replace(third!, Promise.resolve());
    await nextTurn();
    assert.equal([inUse.current, closed], [third, ["second"]]);
    landed.resolve();
  }
  assert.equal(closed.sort(), ["first", "second", "third"]);
});

test.run();

function settingsWith(origins: readonly OriginSettings[]): Settings {
  return { ...loadSettings({ env: {}, home: "/nowhere", systemFile: "/nowhere/config.toml" }).settings, origins };
}

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
