import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../node/clock.ts";
import { generatePublisherKey, keyId, publicKeyText, sign } from "../../node/keys.ts";
import type { Log } from "../../node/log.ts";
import { NodePolicy } from "../../node/node-policy.ts";
import { type AnswerParts, peerAnswers } from "../../node/peer-answers.ts";
import type { Holding, Origin, Swarm, SwarmHandlers } from "../../node/ports.ts";
import { BusyError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { decodeEnvelope, encodeEnvelope, signedBytes } from "../../protocol/record.ts";
import { variantText } from "../../protocol/variant.ts";
import { engine, type Payload, release, variantOf, writeSampleTree } from "../support/payloads.ts";
import { PolicyWorld } from "../support/policy-world.ts";
import { Events, failureOf, within } from "../support/swarm-member.ts";

const test = suite("what peers are given of what a policy voids");
const longMs = 600_000;

/** A machine that holds releases of two publishers, and whose disk gives up nothing; the origin answers when it may. */
class Scene implements AsyncDisposable {
  readonly foo: Payload;
  readonly bar: Payload;
  readonly world: PolicyWorld;
  /** What is said to peers, each time. */
  readonly said = new Events<readonly VariantHash[]>();
  readonly logged = new Events<string>();
  /** As they lie on the disk. */
  readonly records = new Map<VariantHash, Uint8Array>();
  policy!: NodePolicy;
  answers!: SwarmHandlers;
  origin: Promise<void> = Promise.resolve();
  isRemovable = false;
  /** What is being fetched. */
  coming: PayloadId | undefined;
  /** A node has sockets; nothing else here keeps the process. */
  readonly #alive = setInterval(() => undefined, longMs);

  private constructor(world: PolicyWorld, foo: Payload, bar: Payload) {
    this.world = world;
    this.foo = foo;
    this.bar = bar;
    for (const { hash, envelope } of [foo, bar]) this.records.set(hash, envelope);
  }

  /** The policy has been followed, and the machine is off. */
  static async open(): Promise<Scene> {
    const world = new PolicyWorld();
    const releases = await Promise.all(["foo", "bar"].map((name, i) => signed(world, name, i)));
    await world.begin({}, [releases[0]!.key, releases[1]!.key]);
    const scene = new Scene(world, releases[0]!.payload, releases[1]!.payload);
    await scene.start(longMs);
    await scene.policy.look(AbortSignal.timeout(10_000));
    await scene.policy[Symbol.asyncDispose]();
    for (const { all } of [scene.said, scene.logged]) all.length = 0;
    return scene;
  }

  async start(periodMs: number): Promise<void> {
    const { world } = this;
    const plain = world.settings("machine");
    const settings = { ...plain, trust: { ...plain.trust, rootFile: join(world.folder.path, "1.root.json") } };
    const log: Log = (_level, event) => this.logged.add(event);
    this.policy = await NodePolicy.open({ settings, clock: systemClock, log, hasher: engine.hash, periodMs });
    const held = new Map([this.foo, this.bar].map((payload) => [payload.hash, holdingOf(payload)]));
    const store = {
      holdings: () => [...held.values()],
      holding: (variant: VariantHash) => held.get(variant),
      announced: () => [...held.values()].map(({ variant, payload }) => [variant, payload] as const),
      record: async (variant: VariantHash) => this.records.get(variant),
      serve: async () => ({ load: async () => new Uint8Array(1) }),
      remove: async (variant: VariantHash) => {
        if (!this.isRemovable) throw new BusyError("Rez's lock is held");
        held.delete(variant);
      },
    };
    const swarm = { announce: () => this.said.add(this.announced()), peers: () => [] } as unknown as Swarm;
    const demand = (payload: PayloadId) => (payload === this.coming ? {} : undefined);
    const parts = { store, policy: this.policy, transfers: { demand }, hash: engine.hash, log };
    this.answers = peerAnswers({ ...parts, swarm: () => swarm } as unknown as AnswerParts);
    const file = async (name: string, { signal }: { readonly signal: AbortSignal }) => {
      const gone = Promise.withResolvers<never>();
      signal.addEventListener("abort", () => gone.reject(signal.reason));
      await Promise.race([this.origin, gone.promise]);
      const path = join(world.folder.path, name);
      return existsSync(path) ? new Uint8Array(readFileSync(path)) : undefined;
    };
    this.policy.start({
      store: store as unknown as Parameters<NodePolicy["start"]>[0]["store"],
      fetcher: { endDenied: () => undefined },
      origins: () => [{ name: "filer", policyFile: file } as unknown as Origin],
      // Without peers: what is said to them is seen all the same.
      swarm: () => swarm,
      onFollowed: () => undefined,
    });
  }

  announced(): readonly VariantHash[] {
    return this.answers.whole().map(([variant]) => variant);
  }

  /** Which of all that a peer may ask of a release it is given. */
  async given({ hash, record }: Payload): Promise<string[]> {
    const given: string[] = [];
    if (this.announced().includes(hash)) given.push("announced");
    if ((await this.answers.record(hash)) !== undefined) given.push("record");
    if ((await this.answers.serve(record.payload)) !== undefined) given.push("served");
    return given;
  }

  async deny({ record: { payload } }: Payload): Promise<void> {
    await this.world.change({ kind: "deny", payload, by: "ana", reason: "" });
  }

  /** Once all is settled that a start has to settle. */
  async started(): Promise<void> {
    await this.said.until("the good one is announced", (variants) => variants.includes(this.bar.hash));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.policy[Symbol.asyncDispose]();
    clearInterval(this.#alive);
    this.world[Symbol.dispose]();
  }
}

/** A tree of its own, released by a publisher of its own. */
async function signed(world: PolicyWorld, name: string, seed: number): Promise<{ payload: Payload; key: string }> {
  const tree = join(world.path, name);
  mkdirSync(tree);
  writeSampleTree(tree, seed);
  const payload = await release(tree, { variant: variantOf(name) });
  const key = await generatePublisherKey(join(world.path, `${name}.pem`));
  const { body } = decodeEnvelope(payload.envelope);
  const signatures = [{ keyid: keyId(key.rawPublic), sig: sign(key, signedBytes(body)) }];
  return { payload: { ...payload, envelope: encodeEnvelope({ body, signatures }) }, key: publicKeyText(key) };
}

function holdingOf({ hash, record }: Payload): Holding {
  const { variant, payload } = record;
  const facts = { name: variant.name, version: "1.0.0", path: "", bytes: 1, files: 1 };
  return { variant: hash, payload, text: variantText(variant), ...facts };
}

const all = ["announced", "record", "served"];

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using scene = await Scene.open();
    await within(30_000, text, check(scene));
  });
}

rule("a node that starts gives nothing of what it holds before it has asked for a newer policy", async (scene) => {
  await scene.deny(scene.foo);
  const gate = Promise.withResolvers<void>();
  scene.origin = gate.promise;
  await scene.start(longMs);
  assert.equal([await scene.given(scene.foo), await scene.given(scene.bar)], [[], []]);
  scene.coming = scene.bar.record.payload;
  assert.equal(await scene.given(scene.bar), ["served"], "what is on its way in was asked for by now");
  scene.coming = undefined;
  gate.resolve();
  await scene.started();
  assert.equal([await scene.given(scene.foo), await scene.given(scene.bar)], [[], all]);
  assert.not(
    scene.said.all.some((variants) => variants.includes(scene.foo.hash)),
    "at no time",
  );
});

rule("an origin that hangs keeps a node that starts from its peers for a while only", async (scene) => {
  scene.origin = new Promise(() => undefined);
  await scene.start(50);
  await scene.started();
  assert.equal(await scene.given(scene.bar), all);
});

rule("what is denied and cannot be removed is given to nobody, also where its record has rotted", async (scene) => {
  await scene.start(20);
  await scene.started();
  scene.records.set(scene.foo.hash, Buffer.from("rot"));
  await scene.deny(scene.foo);
  await scene.logged.until("it stays", (event) => event === "voided-variant-stays");
  assert.equal([await scene.given(scene.foo), await scene.given(scene.bar)], [[], all]);
  assert.equal(scene.said.all.at(-1), [scene.bar.hash]);
});

rule("what is denied goes, also where its record has gone", async (scene) => {
  scene.isRemovable = true;
  scene.records.delete(scene.foo.hash);
  await scene.start(20);
  await scene.deny(scene.foo);
  await scene.logged.until("it goes", (event) => event === "variant-voided");
});

rule("who joined a payload before it was denied gets no more of it", async (scene) => {
  await scene.start(20);
  await scene.started();
  const served = (await scene.answers.serve(scene.foo.record.payload))!;
  assert.is((await served.load(0)).length, 1);
  await scene.deny(scene.foo);
  await scene.logged.until("it stays", (event) => event === "voided-variant-stays");
  assert.is((await failureOf(served.load(0))).code, "NOT_TRUSTED");
});

rule("what a revoked publisher released and cannot be removed is given to nobody", async (scene) => {
  await scene.start(20);
  await scene.started();
  const served = (await scene.answers.serve(scene.foo.record.payload))!;
  const { signatures } = decodeEnvelope(scene.foo.envelope);
  await scene.world.change({ kind: "revoke-publisher", who: signatures[0]!.keyid, reason: "stolen" });
  await scene.logged.until("it stays", (event) => event === "voided-variant-stays");
  assert.equal([await scene.given(scene.foo), await scene.given(scene.bar)], [[], all]);
  assert.is((await failureOf(served.load(0))).code, "NOT_TRUSTED");
});

rule("what is allowed again is given again", async (scene) => {
  await scene.start(20);
  await scene.started();
  await scene.deny(scene.foo);
  await scene.logged.until("it stays", (event) => event === "voided-variant-stays");
  scene.said.all.length = 0;
  await scene.world.change({ kind: "allow", payload: scene.foo.record.payload });
  await scene.said.until("it is announced again", (variants) => variants.includes(scene.foo.hash));
  assert.equal(await scene.given(scene.foo), all);
});

test.run();
