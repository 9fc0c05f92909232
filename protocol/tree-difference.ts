import { compareBytes } from "./hash.ts";
import { compareUtf8 } from "./paths.ts";
import type { ContinuationEntry, RunHeader, SegmentPart } from "./segments.ts";

/** One entry that two trees do not have alike. */
export interface TreeChange {
  readonly kind: "added" | "removed" | "changed";
  readonly path: string;
}

/** How a tree differs from another. */
export interface TreeDifference {
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
  /** The first ones, in the order of their paths; the rest is only counted. */
  readonly changes: readonly TreeChange[];
}

/** Parts of manifests in the order in which these list them. */
export type Parts = AsyncIterable<SegmentPart> | Iterable<SegmentPart>;

/**
 * Compares two trees by their manifests, entry by entry, and lists up to `changesMax` of what differs. Segments that both
 * have may be left out on both sides: they list the same entries.
 */
export async function compareTrees(before: Parts, after: Parts, changesMax: number): Promise<TreeDifference> {
  const counts = { added: 0, removed: 0, changed: 0 };
  const changes: TreeChange[] = [];
  const note = (kind: TreeChange["kind"], path: string): void => {
    counts[kind]++;
    if (changes.length < changesMax) changes.push({ kind, path });
  };
  const [old, fresh] = [entriesOf(before), entriesOf(after)];
  let [a, b] = [await nextOf(old), await nextOf(fresh)];
  while (a !== undefined || b !== undefined) {
    const order = a === undefined ? 1 : b === undefined ? -1 : compareUtf8(a.path, b.path);
    if (order < 0) note("removed", a!.path);
    else if (order > 0) note("added", b!.path);
    else if (!isSame(a!, b!)) note("changed", a!.path);
    if (order <= 0) a = await nextOf(old);
    if (order >= 0) b = await nextOf(fresh);
  }
  return { ...counts, changes };
}

/** What stands for an entry of the tree. */
type Entry = Exclude<SegmentPart, RunHeader | ContinuationEntry>;

/** Of a file that goes on in other segments the head says all: the digest is of the whole. */
async function* entriesOf(parts: Parts): AsyncGenerator<Entry, void, undefined> {
  for await (const part of parts) {
    if (part.kind !== "run" && part.kind !== "continuation") yield part;
  }
}

async function nextOf(entries: AsyncGenerator<Entry, void, undefined>): Promise<Entry | undefined> {
  const { value } = await entries.next();
  return value ?? undefined;
}

function isSame(a: Entry, b: Entry): boolean {
  if (a.kind === "directory" || b.kind === "directory") return a.kind === b.kind;
  if (a.kind === "link" || b.kind === "link") return a.kind === "link" && b.kind === "link" && a.target === b.target;
  const isAlike = a.sizeBytes === b.sizeBytes && a.executable === b.executable && a.mtimeSeconds === b.mtimeSeconds;
  return isAlike && compareBytes(a.digest, b.digest) === 0;
}
