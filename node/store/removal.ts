import { BusyError, NoSpaceError } from "../../protocol/errors.ts";
import { fillBallast, spendBallast } from "./ballast.ts";
import type { CatalogueEntry } from "./catalogue.ts";
import type { ObjectsCollector } from "./objects-collector.ts";
import { isEntry, type RecoveryPlace } from "./recovery.ts";
import { repairsPath } from "./repairs.ts";
import type { RezCache } from "./rez-cache.ts";
import { deleteTree } from "./rez-files.ts";

export interface RemoveOptions {
  readonly signal?: AbortSignal;
  /** Nobody is served from it any more, and nothing has been taken away yet. */
  readonly onHidden?: () => void;
}

/**
 * Takes an entry's tree out of Rez's cache: its index file first, so that Rez stops using it. After a crash in between
 * the next opening ends it.
 * @throws {BusyError} REZ_LOCK_HELD, or BUSY while somebody writes beside it: it is as it was.
 */
export async function takeOut(rez: RezCache, entry: CatalogueEntry, signal: AbortSignal | undefined): Promise<void> {
  try {
    await takeOutOnce(rez, entry, signal);
  } catch (error) {
    const isFull = error instanceof NoSpaceError && spendBallast(rez.ownPath);
    if (!isFull) throw error;
    await takeOutOnce(rez, entry, signal);
  }
  fillBallast(rez.ownPath);
}

async function takeOutOnce(rez: RezCache, entry: CatalogueEntry, signal: AbortSignal | undefined): Promise<void> {
  // Where it was placed, whatever its repository's place on this machine is called by now.
  for (const found of rez.ownEntriesIn(entry.directory)) {
    if (!isEntry({ ...found, kind: "cached" }, entry)) continue;
    if ((await rez.remove(found, signal)) === "copying") throw beingCopied(found.rootPath);
  }
  await rez.finishRemovals(entry.directory, signal);
}

/** Deletes what a crash left of removals, and what nothing names any more. Never rejects; a signal ends it early. */
export async function tidy(place: RecoveryPlace, objects: ObjectsCollector, closing: AbortSignal): Promise<void> {
  const { rez, onProblem } = place;
  fillBallast(rez.ownPath);
  try {
    await rez.emptyOwnLeftovers(AbortSignal.any([AbortSignal.timeout(tidyWaitMs), closing]));
    await deleteTree(repairsPath(place));
    await objects.collect(closing);
  } catch (error) {
    if (!closing.aborted) onProblem(`leftovers in ${rez.path} were not cleared: ${String(error)}`);
  }
}

/** For Rez's lock, behind the scenes. */
const tidyWaitMs = 60_000;

export function leasedBy(what: string, holder: string): BusyError {
  return new BusyError(`${what} is leased by ${holder}`, { code: "LEASED", hint: "it is free once that has ended" });
}

export function beingCopied(path: string): BusyError {
  return new BusyError(`${path} is being written by somebody else just now`, { hint: "try again in a few seconds" });
}
