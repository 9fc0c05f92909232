import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { publishVariant } from "../../node/payloads/publisher.ts";
import { PayloadStore } from "../../node/store/payload-store.ts";
import { defaultAttributes } from "../../protocol/record.ts";
import { flipByte, storeOptions } from "../node/store/store-fixture.ts";
import { engine, fill, type Payload, release, variantOf } from "./payloads.ts";

// A process that does one kind of work again and again until it is killed: its folder has the trees `first` and `second`.

const folder = process.argv[2]!;
const trees = ["first", "second"];

/** Places and removes payloads. */
async function place(): Promise<void> {
  const payloads = await Promise.all(trees.map((name) => release(join(folder, name), { variant: variantOf(name) })));
  const store = await PayloadStore.open(storeOptions(folder));
  process.stdout.write("ready\n");
  for (let round = 0; ; round++) {
    const payload = payloads[round % payloads.length]!;
    await fetchOne(store, payload);
    // Every other time the next commit replaces what is there.
    if (round % 3 === 2) await store.remove(payload.hash);
  }
}

/** Damages files of one held payload, one at a time, and repairs it. */
async function repair(): Promise<void> {
  const payload = await release(join(folder, "first"), { variant: variantOf("first") });
  const store = await PayloadStore.open(storeOptions(folder));
  if (store.holding(payload.hash) === undefined) await fetchOne(store, payload);
  else await repairOne(store, payload);
  process.stdout.write("ready\n");
  for (let round = 0; ; round++) {
    const { path } = store.holding(payload.hash)!;
    const names = readdirSync(path, { recursive: true, encoding: "utf8" });
    const files = names.filter((name) => statSync(join(path, name), { throwIfNoEntry: false })?.isFile());
    flipByte(join(path, files.filter((name) => name !== "lib/nothing")[round % (files.length - 1)]!));
    await repairOne(store, payload);
  }
}

/** Publishes one variant again and again, from two trees by turns. */
async function publish(): Promise<void> {
  const path = join(folder, "origin");
  const repository = await FolderRepository.open({ name: "origin", path, network: "test", publishes: true });
  process.stdout.write("ready\n");
  for (let round = Math.floor(performance.now()); ; round++) {
    await publishVariant({
      variant: variantOf("first"),
      treePath: join(folder, trees[round % 2]!),
      repository,
      engine,
      sign: { keyid: "aa".repeat(32), sign: (message) => engine.hash(message) },
      attributes: defaultAttributes,
      now: "2026-07-01T08:00:00Z",
      supersede: true,
    });
  }
}

async function fetchOne(store: PayloadStore, payload: Payload): Promise<void> {
  const staged = await store.stage(payload.hash, payload.record, payload.envelope);
  await fill(staged, payload);
  await store.commit(payload.hash, staged);
}

async function repairOne(store: PayloadStore, payload: Payload): Promise<void> {
  if ((await store.verify(payload.hash)).length === 0) return;
  const tree = (await store.repairs.open(payload.hash, payload.record))!;
  await fill(tree, payload);
  await store.repairs.mend(payload.hash, tree);
  await store.repairs.leave(tree);
}

process.umask(0);
const works: Readonly<Record<string, () => Promise<void>>> = { place, repair, publish };
await works[process.argv[3] ?? "place"]!();
