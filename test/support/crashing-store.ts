import { join } from "node:path";
import { PayloadStore } from "../../node/store/payload-store.ts";
import { storeOptions } from "../node/store/store-fixture.ts";
import { fill, release, variantOf } from "./payloads.ts";

// A process that places and removes payloads until it is killed: its folder has the trees `first` and `second`.

process.umask(0);
const folder = process.argv[2]!;
const trees = ["first", "second"];
const payloads = await Promise.all(trees.map((name) => release(join(folder, name), { variant: variantOf(name) })));
const store = await PayloadStore.open(storeOptions(folder));
process.stdout.write("ready\n");
for (let round = 0; ; round++) {
  const { hash, record, envelope } = payloads[round % payloads.length]!;
  const payload = payloads[round % payloads.length]!;
  const staged = await store.stage(hash, record, envelope);
  await fill(staged, payload);
  await store.commit(hash, staged);
  // Every other time the next commit replaces what is there.
  if (round % 3 === 2) await store.remove(hash);
}
