import { MemoryPayloadStore } from "../../../node/store/memory-payload-store.ts";
import { storeRules } from "../../conformance/store-conformance.ts";
import { engine, repository } from "../../support/payloads.ts";

const test = storeRules("memory", async (limits) => {
  const repositories = new Map([[repository, "/mnt/sw/packages"]]);
  const store = new MemoryPayloadStore({ hasher: engine.hash, repositories, limits });
  return {
    store,
    putForeign: (variant) => store.putForeign(variant, "/foreign"),
    putCopy: ({ record, items }) => store.putForeign(record.variant, "/foreign", { chunks: items }),
    damage: (variant) => store.damage(variant),
    content: (variant, path) => store.files(variant).get(path)!,
    close: async () => {},
  };
});

test.run();
