import { isDeepStrictEqual } from "node:util";
import { P2pCacheError } from "../protocol/errors.ts";
import { errorFacts, type Log } from "./log.ts";
import type { LoadedSettings } from "./settings/load.ts";
import type { Settings } from "./settings/schema.ts";

/** How a node reads its configuration again while it runs. */
export interface Reloading {
  /** What the node was started with. */
  readonly current: LoadedSettings;
  /** Reads it all again. @throws {UsageError} */
  readonly load: () => LoadedSettings;
  /** Told whom to call when somebody asks for a reload. */
  readonly onRequest: (reload: () => void) => void;
  /** A new configuration is in force. */
  readonly onReloaded?: (settings: Settings) => void;
}

export interface ReloaderParts extends Pick<Reloading, "current" | "load"> {
  /** Puts into force what may change at run time: all of it, or nothing and an error. */
  readonly apply: (settings: Settings) => Promise<void>;
  readonly log: Log;
}

/**
 * The keys that take effect at a reload, `repositories.<id>` among them; every other one does at the next start. The last
 * four are read by commands only, which read them anew each time.
 */
const liveKeys: ReadonlySet<string> = new Set([
  "cache.max_bytes",
  "cache.free_bytes_min",
  "cache.scrub_period",
  "cache.max_variants",
  "cache.max_age",
  "cache.pinned_bytes_max",
  "cache.min_idle",
  "keepalive.keys",
  "node.log_level",
  "origin",
  "transfer.down",
  "transfer.timeout",
  "transfer.up",
  "trust.publishers",
  "local_packages",
  "publish.key",
  "publish.origin",
  "publish.compress",
]);

/** Reads the configuration again when told to, and says what came of it. */
export class Reloader {
  readonly #parts: ReloaderParts;
  /** By key: what is in force. */
  readonly #inForce: Map<string, unknown>;
  #last: Promise<void> = Promise.resolve();

  constructor(parts: ReloaderParts) {
    this.#parts = parts;
    this.#inForce = new Map(parts.current.values);
  }

  /** One reload after the other; never rejects: what cannot be used is logged, and what was in force stays. */
  reload(): Promise<void> {
    this.#last = this.#last.then(() => this.#reload());
    return this.#last;
  }

  async #reload(): Promise<void> {
    const { load, apply, log } = this.#parts;
    try {
      const loaded = load();
      const changed = this.#changed(loaded);
      const live = changed.filter(isLive);
      const later = changed.filter((key) => !isLive(key));
      await apply(loaded.settings);
      for (const key of live) this.#keep(key, loaded.values.get(key));
      log("info", "settings-reloaded", { changed: live });
      if (later.length > 0) log("warn", "settings-need-restart", { keys: later });
    } catch (error) {
      const { code, message } = errorFacts(error);
      const hint = error instanceof P2pCacheError ? error.hint : undefined;
      log("error", "settings-refused", { code, reason: message, hint });
    }
  }

  #changed({ values }: LoadedSettings): string[] {
    const keys = new Set([...this.#inForce.keys(), ...values.keys()]);
    return [...keys].filter((key) => !isDeepStrictEqual(this.#inForce.get(key), values.get(key)));
  }

  #keep(key: string, value: unknown): void {
    if (value === undefined) this.#inForce.delete(key);
    else this.#inForce.set(key, value);
  }
}

function isLive(key: string): boolean {
  return liveKeys.has(key) || key.startsWith("repositories.");
}

/** What runs, with what a new configuration may change of it. */
export function withLive(running: Settings, next: Settings): Settings {
  const { maxBytes, freeBytesMin, maxVariants, maxAgeMs, pinnedBytesMax, minIdleMs } = next.cache;
  const limits = { maxBytes, freeBytesMin, maxVariants, maxAgeMs, pinnedBytesMax, minIdleMs };
  return {
    ...running,
    cache: { ...running.cache, ...limits },
    keepalive: next.keepalive,
    repositories: next.repositories,
    origins: next.origins,
    transfer: { ...next.transfer, peers: running.transfer.peers },
    trust: { ...running.trust, publishers: next.trust.publishers },
  };
}
