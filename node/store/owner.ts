import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { isMap } from "../../protocol/cbor.ts";
import { BusyError } from "../../protocol/errors.ts";

/** Who holds a file: enough to prove, later and from another process, that it is gone. */
export interface OwnerData {
  readonly program: "p2pcache";
  readonly pid: number;
  /** Clock ticks since boot, as text (proc(5), /proc/pid/stat field 22); empty where there is no /proc. */
  readonly started: string;
  /** In another namespace a pid means another process, or none: `pid:[4026531836]`, empty where unknown. */
  readonly pidNamespace: string;
  readonly bootId: string;
  readonly host: string;
  /** 32 hex digits that no other claim has. */
  readonly nonce: string;
}

/** A file that this process holds until it lets go of it. */
export interface Claim {
  release(): void;
}

/** The data of this process, with a fresh nonce. */
export function ownerData(): OwnerData {
  return {
    program: "p2pcache",
    ...processMark(process.pid),
    nonce: randomBytes(16).toString("hex"),
  };
}

/** Claims of this process that are over, and whose files could not be deleted. */
const abandoned = new Set<string>();

/** What names a process for good: another one never has the same. */
export type ProcessMark = Pick<OwnerData, "pid" | "started" | "pidNamespace" | "bootId" | "host">;

/** Of a process that runs here now. */
export function processMark(pid: number): ProcessMark {
  const started = processState(pid)?.started ?? "";
  return { pid, started, pidNamespace: readPidNamespace(), bootId: readBootId(), host: hostname() };
}

/** Reads a mark from outside; undefined for anything else. */
export function parseProcessMark(value: unknown): ProcessMark | undefined {
  const owner = isMap(value) ? parseOwner({ ...value, program: "p2pcache", nonce: "0".repeat(32) }) : undefined;
  if (owner === undefined) return undefined;
  const { pid, started, pidNamespace, bootId, host } = owner;
  return { pid, started, pidNamespace, bootId, host };
}

/** Whether the owner is provably dead; false whenever that cannot be known from here. */
export function ownerIsDead(owner: ProcessMark & Partial<Pick<OwnerData, "nonce">>): boolean {
  if (owner.nonce !== undefined && abandoned.has(owner.nonce)) return true;
  if (owner.bootId !== readBootId()) return owner.host === hostname() && owner.bootId !== "";
  if (owner.pidNamespace !== readPidNamespace()) return false;
  if (!processExists(owner.pid)) return true;
  const state = processState(owner.pid);
  if (state === undefined) return false;
  return state.isGone || (owner.started !== "" && state.started !== owner.started);
}

/** The data in the file; undefined where there is none, or it is not ours. */
export function readOwner(path: string): OwnerData | undefined {
  const text = readText(path);
  if (text === undefined || text.length > ownerBytesMax) return undefined;
  try {
    return parseOwner(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/**
 * Tries once to become the one holder of `path`, breaking a claim whose owner is provably dead. Drafts and markers lie
 * in `scratch`, a directory of ours on the same filesystem, the same for all who claim this path.
 * Breaking is safe among many: only who holds the marker of a dead claim's nonce may remove that claim, and it looks
 * again before it does; a marker is itself a claim, so a dead one is broken in the same way.
 * @returns the claim, or undefined where somebody else holds it.
 */
export function tryClaim(path: string, scratch: string): Claim | undefined {
  if (isHeld(path)) return undefined;
  const data = ownerData();
  const draft = join(scratch, `${draftPrefix}${data.pid}-${data.nonce}`);
  writeDraft(draft, JSON.stringify(data));
  try {
    for (let tries = 0; !linkExclusively(draft, path); tries++) {
      if (isHeld(path) || tries === triesMax) return undefined;
      const holder = readOwner(path);
      if (holder !== undefined && !breakDead(path, holder, scratch)) return undefined;
    }
  } finally {
    forgetDraft(draft);
  }
  return {
    release() {
      try {
        if (readOwner(path)?.nonce === data.nonce) unlinkSync(path);
      } catch {
        // A disk that fails just now must not keep us out for as long as we live.
        abandoned.add(data.nonce);
      }
    },
  };
}

/** One that a failing disk keeps goes with the next start: a claim that has been made must be given to its owner. */
function forgetDraft(draft: string): void {
  try {
    unlinkSync(draft);
  } catch {
    // See above.
  }
}

/** Deletes the drafts that dead processes left in `scratch`. */
export function clearDeadDrafts(scratch: string): void {
  for (const name of readdirSync(scratch)) {
    if (!name.startsWith(draftPrefix)) continue;
    const owner = readOwner(join(scratch, name));
    // A draft cut off by a crash has no owner any more, and one being written is younger than its reader's start.
    if (owner !== undefined && ownerIsDead(owner)) unlinkSync(join(scratch, name));
  }
}

/** The one process that writes in a cache or a state directory: `.sys/p2pcache/owner`, `<state>/owner`. */
export class CacheOwner {
  readonly #claim: Claim;

  private constructor(claim: Claim) {
    this.#claim = claim;
  }

  /** @throws {BusyError} CACHE_IN_USE, naming pid and host, while another live process holds `path`. */
  static claim(path: string): CacheOwner {
    const claim = tryClaim(path, dirname(path));
    if (claim !== undefined) return new CacheOwner(claim);
    const holder = readOwner(path);
    const who = holder === undefined ? "somebody unknown" : `process ${holder.pid} on ${holder.host}`;
    throw new BusyError(`${dirname(path)} is in use by ${who} (${path})`, {
      code: "CACHE_IN_USE",
      hint: "use that node, or end it; if you know that it is gone, delete the file",
      details: { path, ...(holder === undefined ? {} : { pid: holder.pid, host: holder.host }) },
    });
  }

  /** Lets go of it; a second call does nothing. */
  release(): void {
    this.#claim.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** Whether somebody holds `path`, as far as can be known: an empty or strange file counts. */
function isHeld(path: string): boolean {
  const owner = readOwner(path);
  return owner === undefined ? readText(path) !== undefined : !ownerIsDead(owner);
}

/** @returns whether the dead claim is out of the way, so that it is worth trying again. */
function breakDead(path: string, holder: OwnerData, scratch: string): boolean {
  if (!ownerIsDead(holder)) return false;
  const marker = tryClaim(join(scratch, `.break-${holder.nonce}`), scratch);
  if (marker === undefined) return false;
  try {
    if (readOwner(path)?.nonce === holder.nonce) unlinkSync(path);
    return true;
  } finally {
    marker.release();
  }
}

/** The content is on disk before anybody sees it: after a power cut an empty claim could never be told from Rez's. */
function writeDraft(path: string, text: string): void {
  const file = openSync(path, "wx", 0o644);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function linkExclusively(draft: string, path: string): boolean {
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return false;
  }
}

function parseOwner(value: unknown): OwnerData | undefined {
  if (!isMap(value)) return undefined;
  const { program, pid, started, pidNamespace, bootId, host, nonce } = value;
  if (program !== "p2pcache" || typeof pid !== "number" || !Number.isSafeInteger(pid) || pid < 1) return undefined;
  if (typeof started !== "string" || typeof pidNamespace !== "string" || typeof bootId !== "string") return undefined;
  if (typeof host !== "string" || typeof nonce !== "string" || !/^[0-9a-f]{32}$/.test(nonce)) return undefined;
  return { program, pid, started, pidNamespace, bootId, host, nonce };
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Undefined where /proc does not show the process (another user's, under hidepid). */
function processState(pid: number): { started: string; isGone: boolean } | undefined {
  const text = readText(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // The second field is the program's name in brackets, and may have spaces and brackets in it.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const isZombie = fields[0] === "Z" || fields[0] === "X";
  return { started: fields[22 - 3] ?? "", isGone: isZombie && threads(pid) <= 1 };
}

/** A zombie with threads left may still write: one of them hangs in a system call. */
function threads(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/task`).length;
  } catch {
    return 0;
  }
}

/** Another at every boot of this machine; empty where there is no /proc. */
export function readBootId(): string {
  return readText("/proc/sys/kernel/random/boot_id")?.trim() ?? "";
}

function readPidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    // A file that is there but cannot be read is somebody's, and not ours.
    return path.startsWith("/proc/") || (error as NodeJS.ErrnoException).code === "ENOENT" ? undefined : "";
  }
}

/** Each try is a claim that came and went meanwhile; more of them mean something strange lies there. */
const triesMax = 10;
const draftPrefix = ".claim-";
/** A claim has about 250 bytes; the rest is room for a long host name. */
const ownerBytesMax = 4096;
