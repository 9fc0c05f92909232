import type { Expectation } from "./units.ts";

/** When an origin may be asked: as the swarm plans it, the same within `slots` and `rate`, or not at all. */
export type OriginPolicy = "auto" | "limited" | "never";

interface OriginCommon {
  readonly name: string;
  readonly policy: OriginPolicy;
  /** Nodes that read it at a time, in the whole site; `undefined`: all. */
  readonly slots: number | undefined;
  /** For the whole site; `undefined`: unlimited. */
  readonly rateBytesPerSecond: number | undefined;
}

/** A repository in a directory; `inPlace`: chunks may be read from the releases themselves. */
export interface FolderOriginSettings extends OriginCommon {
  readonly kind: "folder";
  readonly path: string;
  readonly inPlace: boolean;
}

/** A repository behind a static HTTP(S) server. */
export interface HttpOriginSettings extends OriginCommon {
  readonly kind: "http";
  readonly url: string;
  /** PEM; `undefined`: the authorities that Node knows. */
  readonly caFile: string | undefined;
  /** One line, `basic user:password` or `bearer TOKEN`. */
  readonly credentialsFile: string | undefined;
}

export type OriginSettings = FolderOriginSettings | HttpOriginSettings;

/** Bytes per second of each class of traffic by itself; `undefined`: unlimited. */
export interface ClassRates {
  readonly interactive: number | undefined;
  readonly jobStart: number | undefined;
  readonly prefetch: number | undefined;
  readonly repair: number | undefined;
}

/** Every setting (CONTRACTS, "Configuration"), checked; paths are absolute, `undefined` is "not set". */
export interface Settings {
  readonly network: {
    readonly name: string | undefined;
    readonly keyFile: string | undefined;
    readonly admission: "key" | "members" | "open";
  };
  readonly node: {
    readonly name: string;
    /** Multiaddrs. */
    readonly listen: readonly string[];
    readonly bootstrap: readonly string[];
    readonly mdns: boolean;
    readonly announceLoopback: boolean;
    readonly site: string;
    readonly rack: string;
    /** Directory. */
    readonly state: string;
    /** Unix socket; `adminSocket` stands beside it. */
    readonly socket: string;
    readonly adminSocket: string;
    readonly lanes: number | "auto";
    /** First and last port, both included. */
    readonly lanePorts: { readonly first: number; readonly last: number } | "any";
    readonly encryption: boolean;
    /** What matters less is not logged; `-v` and `-q` override it. */
    readonly logLevel: "debug" | "info" | "warn" | "error";
  };
  readonly cache: {
    readonly path: string;
    /** These three depend on the disk where they are not set: `resolveDiskDefaults`. */
    readonly maxBytes: number | undefined;
    readonly freeBytesMin: number | undefined;
    readonly pinnedBytesMax: number | undefined;
    readonly maxVariants: number | undefined;
    readonly maxAgeMs: number | undefined;
    readonly minIdleMs: number;
    /** 0: what is held is not looked at by itself. */
    readonly scrubPeriodMs: number;
    /** Permission bits of Rez's index files. */
    readonly indexMode: number;
    /** Further caches, read only, in order. */
    readonly chain: readonly string[];
  };
  /** Directory by repository id, as it is written: a look at it may take for ever (`realRepositories`). */
  readonly repositories: ReadonlyMap<string, string>;
  readonly localPackages: readonly string[];
  /** In order of preference. */
  readonly origins: readonly OriginSettings[];
  readonly transfer: {
    readonly peers: "auto" | "never";
    readonly timeoutMs: number;
    readonly upBytesPerSecond: ClassRates;
    readonly downBytesPerSecond: ClassRates;
  };
  readonly trust: {
    /** File of the policy's root, by which a machine without a policy takes its first one. */
    readonly rootFile: string | undefined;
    /** `ed25519:<base64 of the raw 32 bytes>`. */
    readonly publishers: readonly string[];
    readonly mode: "signed" | "hash-only";
  };
  readonly keepalive: {
    /** By toolset: its owner's public key, `ed25519:<base64 of the raw 32 bytes>`. */
    readonly keys: ReadonlyMap<string, string>;
  };
  readonly publish: {
    readonly keyFile: string;
    /** Name of a folder origin; `undefined` where there is none. */
    readonly origin: string | undefined;
    /** Whether chunks are written compressed where that saves a tenth. */
    readonly compress: boolean;
  };
}

/** How a value is written in the environment, and what it is in the file. */
export type SettingKind =
  | "text"
  | "path"
  | "paths"
  | "list"
  | "flag"
  | "count"
  | "size"
  | "duration"
  | "rate"
  | "table"
  | "tables";

/** One key of the configuration, for reference pages and for reading it. */
export interface SettingKey {
  /** With dots: `cache.max_bytes`; of repositories `repositories.<id>`; of an origin's fields `origin.path`. */
  readonly key: string;
  readonly kind: SettingKind;
  readonly expected: Expectation;
  readonly description: string;
  /** As in the file; `undefined` where the machine decides. */
  readonly default: unknown;
  /** For people. */
  readonly defaultText: string;
}

/** Settings whose default depends on the disk, all resolved. */
export type CacheLimits = Settings["cache"] & {
  readonly maxBytes: number;
  readonly freeBytesMin: number;
  readonly pinnedBytesMax: number;
};

/** Fills in 80 % of the disk for `maxBytes`, 5 % for `freeBytesMin`, and 80 % of `maxBytes` for `pinnedBytesMax`. */
export function resolveDiskDefaults(
  settings: Settings,
  disk: { readonly totalBytes: number },
): Settings & { readonly cache: CacheLimits } {
  const maxBytes = settings.cache.maxBytes ?? Math.floor(disk.totalBytes * 0.8);
  const freeBytesMin = settings.cache.freeBytesMin ?? Math.floor(disk.totalBytes * 0.05);
  const pinnedBytesMax = settings.cache.pinnedBytesMax ?? Math.floor(maxBytes * 0.8);
  return { ...settings, cache: { ...settings.cache, maxBytes, freeBytesMin, pinnedBytesMax } };
}
