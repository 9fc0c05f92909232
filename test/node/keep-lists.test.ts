// runs unprivileged
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { keepListName, OriginListSource } from "../../node/keep-alive/origin-list-source.ts";
import { KeepLists } from "../../node/keep-lists.ts";
import { generatePublisherKey, type PublisherKey, publicKeyText } from "../../node/keys.ts";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import type { KeepAliveSource } from "../../node/ports.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import { sealedList, signedList } from "../support/keep-lists.ts";

const nowMs = Date.parse("2026-11-21T08:00:00Z");
const nuke = { kind: "rez", repository: "studio", name: "nuke", version: "14.0" } as const;

interface Scene {
  readonly directory: string;
  readonly key: PublisherKey;
  readonly other: PublisherKey;
  readonly refused: string[];
  wallMs: number;
  open(key?: PublisherKey): Promise<KeepLists>;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    const directory = mkdtempSync(join(tmpdir(), "keep-lists-"));
    try {
      const key = await generatePublisherKey(join(directory, "fx.pem"));
      const other = await generatePublisherKey(join(directory, "other.pem"));
      const refused: string[] = [];
      const scene: Scene = {
        ...{ directory, key, other, refused, wallMs: nowMs },
        open: (owner = key) =>
          KeepLists.open(new Map([["fx", publicKeyText(owner)]]), {
            directory: join(directory, "lists"),
            place: { site: "", rack: "", host: "ws" },
            clock: { monotonicMs: () => 0, wallMs: () => scene.wallMs },
            onRefused: (toolset, reason) => refused.push(`${toolset} ${reason}`),
          }),
      };
      await check(scene);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

rule("the newest list counts, also after a restart with nobody to ask", async ({ open, key }) => {
  const lists = await open();
  assert.is(lists.index().best(nuke), undefined);
  assert.ok(await lists.refresh([sourceOf(sealed(key, 7, ["studio:nuke"]))]));
  assert.not(await lists.refresh([sourceOf(sealed(key, 7, ["studio:nuke"]))]), "the same is nothing new");
  assert.is((await open()).index().best(nuke)?.version, 7);
});

rule("an older version, or another one of the same, is refused and told once, through restarts (P6)", async (scene) => {
  const { open, key, refused } = scene;
  await (await open()).refresh([sourceOf(sealed(key, 7, ["studio:nuke"]))]);
  const lists = await open();
  for (const bad of [sealed(key, 6, ["studio:maya"]), sealed(key, 7, ["studio:maya"])]) {
    for (let i = 0; i < 3; i++) await lists.refresh([sourceOf(bad)]);
  }
  assert.equal(lists.all()[0]!.version, 7);
  assert.is(refused.length, 2);
  assert.match(refused[0]!, /version 6, but 7 was seen already/);
  assert.match(refused[1]!, /two keep-alive lists of fx have version 7/);
});

rule("of two lists that come at once the later one stays, whichever is written first (P6)", async ({ open, key }) => {
  const lists = await open();
  const [nine, eight] = [sealed(key, 9, ["studio:nuke"]), sealed(key, 8, ["studio:maya"])];
  const taken = await Promise.allSettled([lists.take("fx", nine), lists.take("fx", eight)]);
  assert.equal(
    taken.map(({ status }) => status),
    ["fulfilled", "rejected"],
  );
  assert.equal([lists.all()[0]!.version, (await open()).all()[0]!.version], [9, 9]);
});

rule("while other toolsets are taken up, what was kept is kept at every moment (P5)", async ({ open, key }) => {
  const lists = await open();
  await lists.refresh([sourceOf(sealed(key, 1, ["studio:nuke"]))]);
  const following = lists.follow(
    new Map([
      ["fx", publicKeyText(key)],
      ["comp", publicKeyText(key)],
    ]),
  );
  for (let i = 0; i < 20; i++) {
    assert.ok(lists.index().best(nuke), `${i}`);
    await Promise.resolve();
  }
  await following;
  assert.ok(lists.index().best(nuke));
  assert.equal(lists.toolsets, ["fx", "comp"]);
});

rule("who is not the toolset's owner is refused, and so is a list in another one's place", async (scene) => {
  const { open, key, other, refused } = scene;
  const lists = await open();
  await lists.refresh([sourceOf(sealed(other, 1, ["studio:nuke"]))]);
  await lists.refresh([sourceOf(sealed(key, 1, ["studio:nuke"], "comp"))]);
  await lists.refresh([sourceOf(new TextEncoder().encode("{}"))]);
  assert.equal(lists.all(), []);
  assert.is(refused.length, 3, refused.join("\n"));
});

rule(
  "a new owner's list counts from a higher version on; that of the old one does not count meanwhile",
  async (scene) => {
    const { open, key, other } = scene;
    await (await open()).refresh([sourceOf(sealed(key, 7, ["studio:nuke"]))]);
    const lists = await open(other);
    assert.equal(lists.all(), []);
    assert.not(await lists.refresh([sourceOf(sealed(other, 7, ["studio:maya"]))]));
    assert.not(await lists.refresh([sourceOf(sealed(other, 3, ["studio:maya"]))]));
    assert.ok(await lists.refresh([sourceOf(sealed(other, 8, ["studio:maya"]))]));
  },
);

rule("a list loses its force at the moment when it expires, while the node runs", async (scene) => {
  const lists = await scene.open();
  await lists.refresh([sourceOf(sealed(scene.key, 1, ["studio:nuke"], "fx", "2026-11-21T09:00:00Z"))]);
  assert.is(lists.index().best(nuke)?.isExpired, false);
  scene.wallMs = Date.parse("2026-11-21T09:00:00Z");
  assert.is(lists.index().best(nuke)?.isExpired, true);
  scene.wallMs = nowMs;
  assert.is(lists.index().best(nuke)?.isExpired, false, "a clock that was set back is no reason to go on expired");
});

rule(
  "a list of the network's policy counts before one at an origin, with the policy's version and expiry",
  async (scene) => {
    const lists = await scene.open();
    await lists.refresh([sourceOf(sealed(scene.key, 7, ["studio:maya", "studio:nuke"]))]);
    const inPolicy = (toolset: string, more: object = {}) => ({
      ...{ toolset, version: 3, expiresMs: nowMs + 60_000, signer: "owner" },
      bytes: new TextEncoder().encode(JSON.stringify({ toolset: "fx", keep: [{ package: "studio:nuke" }], ...more })),
    });
    lists.takePolicy([inPolicy("fx"), inPolicy("comp"), inPolicy("fx2", { toolset: "fx2", keep: 5 })]);
    const naming = lists.index().best(nuke)!;
    assert.equal([naming.toolset, naming.version, naming.rank, naming.signer], ["fx", 3, 1, "owner"]);
    assert.match(scene.refused[0]!, /^comp in the policy: the policy has the list of fx as that of comp/);
    assert.match(scene.refused[1]!, /^fx2 in the policy/);
    assert.equal(lists.warnings(), []);
    const index = lists.index();
    lists.takePolicy([inPolicy("fx"), inPolicy("comp"), inPolicy("fx2", { toolset: "fx2", keep: 5 })]);
    assert.is(lists.index(), index, "the same again changes nothing, and nobody looks anything up anew");
    // Once it has expired the policy's reader leaves it out: what it named is known to have been named.
    scene.wallMs = nowMs + 60_000;
    lists.takePolicy([]);
    assert.ok(lists.index().best(nuke)!.isExpired);
    assert.equal(lists.warnings(), [
      "the keep-alive list of fx has expired at 2026-11-21T08:01:00Z: nothing is kept for it",
    ]);
  },
);

rule("a source that cannot be asked keeps no other from being asked", async ({ open, key, refused }) => {
  const broken: KeepAliveSource = {
    name: "filer",
    list: async () => {
      throw new UnreachableError("the filer is down");
    },
  };
  const lists = await open();
  assert.ok(await lists.refresh([broken, sourceOf(sealed(key, 2, ["studio:nuke"]))]));
  assert.match(refused[0]!, /from filer: the filer is down/);
});

rule(
  "a list that was spoilt on the disk, or has gone, is taken from its copy: nothing older counts (P6)",
  async (scene) => {
    const { open, key, directory, refused } = scene;
    await (await open()).refresh([sourceOf(sealed(key, 7, ["studio:nuke"]))]);
    for (const place of ["lists", "lists.copy"]) {
      const file = join(directory, place, "fx.dsse.json");
      const whole = readFileSync(file);
      // The version as it is written: a list by this number would be newer than all others.
      const text = whole.toString().replace(/"payload":"([^"]+)"/, (_, body) => {
        const changed = Buffer.from(body, "base64")
          .toString()
          .replace(/"listVersion":7/, '"listVersion":9');
        return `"payload":"${Buffer.from(changed).toString("base64")}"`;
      });
      assert.is.not(text, whole.toString());
      for (const spoil of [
        () => writeFileSync(file, whole.subarray(0, 100)),
        () => writeFileSync(file, text),
        () => rmSync(file),
      ]) {
        spoil();
        const lists = await open();
        assert.is(lists.index().best(nuke)?.version, 7);
        assert.equal(readFileSync(file), whole, "it is made anew");
        refused.length = 0;
        assert.not(await lists.refresh([sourceOf(sealed(key, 3, ["studio:maya"]))]));
        assert.match(refused[0]!, /version 3, but 7 was seen already/);
      }
    }
  },
);

rule(
  "what is kept and was spoilt on the disk with its copy counts for nothing, and is told",
  async ({ open, key, directory, refused }) => {
    await (await open()).refresh([sourceOf(sealed(key, 7, ["studio:nuke"]))]);
    for (const place of ["lists", "lists.copy"]) {
      const file = join(directory, place, "fx.dsse.json");
      writeFileSync(file, readFileSync(file).subarray(0, 100));
    }
    const lists = await open();
    assert.equal([lists.all().length, refused.length], [0, 1]);
    assert.ok(await lists.refresh([sourceOf(sealed(key, 8, ["studio:nuke"]))]));
  },
);

rule("lists lie among the files of an origin's policy", async ({ key, open }) => {
  const origin = new MemoryRepository("filer");
  origin.policy.set(keepListName("fx"), sealed(key, 1, ["studio:nuke"]));
  assert.ok(await (await open()).refresh([new OriginListSource(origin)]));
  assert.is(await new OriginListSource(origin).list("comp"), undefined);
});

function sealed(key: PublisherKey, version: number, keep: string[], toolset = "fx", expires?: string): Uint8Array {
  return sealedList(key, signedList(toolset, version, keep, expires === undefined ? {} : { expires }));
}

function sourceOf(envelope: Uint8Array): KeepAliveSource {
  return { name: "memory", list: async () => envelope };
}

test.run();
