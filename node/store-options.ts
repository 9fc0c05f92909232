import type { HashEngine } from "./hasher.ts";
import type { Clock } from "./ports.ts";
import type { resolveDiskDefaults } from "./settings/schema.ts";
import type { StoreOptions } from "./store/store-options.ts";

/** What the store is opened with, as far as the settings say it. */
export function storeOptions(
  settings: ReturnType<typeof resolveDiskDefaults>,
  clock: Clock,
  engine: HashEngine,
): Pick<StoreOptions, "cachePath" | "statePath" | "limits" | "indexMode" | "clock" | "hasher" | "repositories"> {
  const { cache, node, repositories } = settings;
  return {
    cachePath: cache.path,
    statePath: node.state,
    limits: { maxBytes: cache.maxBytes, freeBytesMin: cache.freeBytesMin, maxVariants: cache.maxVariants },
    indexMode: cache.indexMode,
    clock,
    hasher: engine.hash,
    repositories,
  };
}
