import type { Hasher } from "../../protocol/hash.ts";
import type { Clock } from "../ports.ts";
import type { ItemWorkers } from "./item-workers.ts";
import type { KeeperParts } from "./record-objects.ts";
import type { LockTiming } from "./rez-lock.ts";
import type { DiskSpace, SpaceLimits } from "./space.ts";

export interface StoreOptions extends Pick<KeeperParts, "readRecord"> {
  readonly cachePath: string;
  readonly statePath: string;
  readonly limits: SpaceLimits;
  /** Permission bits of Rez's index files. */
  readonly indexMode: number;
  readonly clock: Clock;
  readonly hasher: Hasher;
  /** The real path of each repository on this machine, by id. */
  readonly repositories: ReadonlyMap<string, string>;
  readonly lock?: LockTiming;
  readonly readSpace?: (path: string) => Promise<DiskSpace>;
  /** Threads that several stores use, one after the other; whoever gives them closes them. For tests. */
  readonly workers?: ItemWorkers;
  /** Told what was mended or could not be, for the log. */
  readonly onProblem?: (problem: string) => void;
}
