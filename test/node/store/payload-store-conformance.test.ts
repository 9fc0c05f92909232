import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PayloadStore } from "../../../node/store/payload-store.ts";
import { RezCache } from "../../../node/store/rez-cache.ts";
import { rezHandle } from "../../../protocol/rez-handle.ts";
import { storeRules } from "../../conformance/store-conformance.ts";
import { removeTree } from "../../support/payloads.ts";
import { copyLikeRez } from "../../support/rez-copies.ts";
import { flipByte, location, storeOptions } from "./store-fixture.ts";

const test = storeRules("disk", async (limits) => {
  const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-conformance-"));
  const store = await PayloadStore.open({ ...storeOptions(folder), limits });
  const rez = RezCache.open(join(folder, "cache"));
  return {
    store,
    putForeign: (variant) => {
      const handle = rezHandle(variant, location);
      const directory = rez.directoryOf(handle);
      fs.mkdirSync(join(directory, "a"), { recursive: true, mode: 0o755 });
      fs.writeFileSync(join(directory, "a.json"), JSON.stringify({ handle }));
    },
    putCopy: ({ record }, treePath) => void copyLikeRez(join(folder, "cache"), location, record.variant, treePath),
    damage: (variant) => {
      const { path } = store.holding(variant)!;
      for (const file of fs.readdirSync(path, { recursive: true, encoding: "utf8" })) {
        const stat = fs.lstatSync(join(path, file));
        if (stat.isFile() && stat.size > 0) flipByte(join(path, file));
      }
    },
    content: (variant, path) => fs.readFileSync(join(store.holding(variant)!.path, path)),
    close: async () => {
      await store[Symbol.asyncDispose]();
      removeTree(folder);
    },
  };
});

test.run();
