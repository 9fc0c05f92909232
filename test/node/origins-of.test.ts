// runs unprivileged

import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../node/clock.ts";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { OriginSet } from "../../node/origins-of.ts";
import { loadSettings } from "../../node/settings/load.ts";
import type { OriginSettings, Settings } from "../../node/settings/schema.ts";
import { parseChunkHash } from "../../protocol/hash.ts";
import { noise } from "../support/noise.ts";
import { emptyRepository } from "../support/served-folder.ts";
import { StaticServer } from "../support/static-server.ts";
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
