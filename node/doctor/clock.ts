import { statSync } from "node:fs";
import { join } from "node:path";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";

/**
 * Our clock against the time that somebody told us.
 * @param theirMs milliseconds since 1970 by their clock, at the moment `ourMs` by ours.
 */
export function clockLine(who: string, theirMs: number, ourMs: number): CheckLine {
  const aheadMs = ourMs - theirMs;
  const offMs = Math.abs(aheadMs);
  if (offMs <= toleratedMs) return ok("clock", `within ${toleratedMs / 1000} s of that of ${who}`);
  const text = `this machine's clock is ${timeText(offMs)} ${aheadMs > 0 ? "ahead of" : "behind"} that of ${who}`;
  const hint = "have one of them set by the time server: timedatectl set-ntp true, or chronyc makestep";
  return (offMs > hopelessMs ? failure : warning)("clock", text, hint);
}

/**
 * What was written after now was written by a clock that is ahead of ours, or before ours was set back. A directory has
 * no clock that can be read without writing there, so that this is all that can be said of one.
 */
export function* checkWrittenTimes(who: string, paths: readonly string[], nowMs: number): Generator<CheckLine> {
  const times = paths.flatMap((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? []);
  if (times.length === 0) return;
  const newestMs = Math.max(...times);
  if (newestMs <= nowMs + toleratedMs) return yield ok("clock", `nothing of ${who} was written after now`);
  yield clockLine(who, newestMs, nowMs);
}

/** A peer, and by how much its clock was ahead of ours when it came. */
export interface PeerClock {
  readonly name: string;
  readonly clockAheadMs?: number;
}

/** Our clock against those of the peers that are here: where most of them agree against us, it is ours that is wrong. */
export function* checkPeerClocks(peers: readonly PeerClock[], nowMs: number): Generator<CheckLine> {
  const aheadMs = peers.flatMap((peer) => peer.clockAheadMs ?? []).sort((a, b) => a - b);
  if (aheadMs.length === 0) return;
  const middleMs = aheadMs[aheadMs.length >> 1]!;
  const isOurs = Math.abs(middleMs) > toleratedMs;
  const who = aheadMs.length === 1 ? `the peer ${peers[0]!.name}` : `most of ${aheadMs.length} peers`;
  if (isOurs) return yield clockLine(who, nowMs + middleMs, nowMs);
  const wrong = peers.filter(({ clockAheadMs = 0 }) => Math.abs(clockAheadMs) > toleratedMs);
  for (const { name, clockAheadMs = 0 } of wrong.slice(0, shownMax)) {
    const text = `the clock of the peer ${name} is ${timeText(Math.abs(clockAheadMs))} ${clockAheadMs > 0 ? "ahead of" : "behind"} ours`;
    yield warning("clock", text, "have it set by the time server there: timedatectl set-ntp true");
  }
  if (wrong.length === 0) yield ok("clock", `within ${toleratedMs / 1000} s of those of ${aheadMs.length} peers`);
}

/** Files of a repository that are written again and again. */
export function repositoryPaths(path: string): string[] {
  return [path, ...["p2pcache.json", "variants", "chunks"].map((name) => join(path, name))];
}

function timeText(ms: number): string {
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return ms < 172_800_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} days`;
}

/** HTTP's Date has whole seconds, and an answer may take some of them on its way. */
const toleratedMs = 30_000;
const shownMax = 5;
/** Certificates and expiries are wrong by then. */
const hopelessMs = 3_600_000;
