import { lstatSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";

/** What is known of a process that claimed a file. */
interface Owner {
  readonly pid: number;
  readonly host: string;
}

/** How to read a claim, and to tell that its process has gone. */
export interface Claims<Claim extends Owner> {
  readonly read: (path: string) => Claim | undefined;
  readonly isDead: (claim: Claim) => boolean;
}

/** Who else writes in the cache: another node, another user, Rez. */
export function* checkWriters<Claim extends Owner>(
  cache: string,
  claims: Claims<Claim>,
  running: { readonly pid?: number | undefined },
): Generator<CheckLine> {
  if (statSync(cache, { throwIfNoEntry: false }) === undefined) {
    return yield ok("writers", "nobody writes in the cache: it is not there yet");
  }
  const faults = [
    ...ownerFaults(join(cache, ".sys", "p2pcache", "owner"), claims, running.pid),
    ...lockFaults(join(cache, ".sys", ".lock.lock"), claims),
    ...strangers(cache),
  ];
  yield* faults;
  if (faults.length === 0) yield ok("writers", "no other node, no other user and no lock that is stuck");
  yield* pendingNote(join(cache, ".sys", "pending"));
}

function* ownerFaults<Claim extends Owner>(
  path: string,
  claims: Claims<Claim>,
  running: number | undefined,
): Generator<CheckLine> {
  const owner = claims.read(path);
  if (owner === undefined) {
    // Below .sys/p2pcache only its owner may look.
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
    return yield failure("writers", `${path} is there and is no p2pcache's`, "look who wrote it, and delete it");
  }
  if (claims.isDead(owner) || owner.pid === running) return;
  const who = `process ${owner.pid} on ${owner.host}`;
  yield warning(
    "writers",
    `${who} owns the cache, and no node answers on the configured socket`,
    "is node.socket the same for all who use this cache? if that process has gone, delete the owner file",
  );
}

/** Rez never breaks a lock (REZ.md section 5): one that a crash left stops every copy and every placing. */
function* lockFaults<Claim extends Owner>(path: string, claims: Claims<Claim>): Generator<CheckLine> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const heldMs = Date.now() - stat.mtimeMs;
  const owner = claims.read(path);
  if (heldMs < lockMsMax || (owner !== undefined && claims.isDead(owner))) return;
  yield failure(
    "writers",
    `Rez's lock ${path} has been held for ${Math.round(heldMs / 1000)} s, since a crash most likely: nothing can be placed`,
    `if no rez-env or rez-pkg-cache runs on this cache, rm ${path}`,
  );
}

/** Families in the cache that belong to somebody else: Rez of another user copied them. */
function* strangers(cache: string): Generator<CheckLine> {
  const owner = statSync(cache).uid;
  const foreign = readdirSync(cache)
    .filter((name) => !name.startsWith("."))
    .slice(0, familiesMax)
    .filter((name) => lstatSync(join(cache, name), { throwIfNoEntry: false })?.uid !== owner);
  if (foreign.length === 0) return;
  const shown = foreign.slice(0, 3).join(", ");
  yield failure(
    "writers",
    `${foreign.length} directories in ${cache} belong to another user (${shown}): nothing is placed in them`,
    `chown -R ${owner} them, and let one user's Rez write there: write_package_cache = False for the others`,
  );
}

/** Rez puts what its own daemon is to copy there (REZ.md section 2). */
function* pendingNote(path: string): Generator<CheckLine> {
  try {
    const count = readdirSync(path).length;
    if (count > 0) yield ok("writers", `Rez copies into this cache too: ${count} of its variants wait in ${path}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Rez and p2pcache hold it for milliseconds, and wait at most 10 s for it. */
const lockMsMax = 15_000;
/** A studio has some hundreds of package families. */
const familiesMax = 10_000;
