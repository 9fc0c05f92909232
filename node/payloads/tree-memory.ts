import { setImmediate as nextTurn } from "node:timers/promises";
import { type TreeTop, treeChanged, type WalkedEntry, type WalkOptions, walkTree } from "./walk-tree.ts";

/**
 * What a walk saw of each entry, as one number an entry: a second walk then finds what changed after it had been read,
 * which nothing else shows (a file that is written in place, say). 8 bytes an entry.
 */
export class TreeMemory {
  readonly #seen: number[] = [];

  note(entry: WalkedEntry): void {
    this.#seen.push(fingerprint(entry));
  }

  /** Walks the tree again. @throws {TreeDamagedError} (TREE_CHANGED) that names the first entry that is another one now. */
  async compare(top: TreeTop, options: WalkOptions & { readonly signal?: AbortSignal }): Promise<void> {
    let at = 0;
    for (const entry of walkTree(top, options)) {
      if (this.#seen[at++] !== fingerprint(entry)) throw treeChanged(entry.path);
      if (at % entriesPerTurn === 0) await nextTurn();
      options.signal?.throwIfAborted();
    }
    if (at !== this.#seen.length) throw treeChanged(top.path);
  }
}

const entriesPerTurn = 256;

/** 53 bits of all that shows a change: the path, and which file it is with what size and times; or where a link leads. */
function fingerprint(entry: WalkedEntry): number {
  if (entry.kind === "link") return hashText(`${entry.path}\0${entry.target}`);
  const { ino, dev, size, mode, mtimeNs, ctimeNs } = entry.stats;
  return hashText(`${entry.path}\0${ino} ${dev} ${size} ${mode} ${mtimeNs} ${ctimeNs}`);
}

/** Two words mixed letter by letter, as in MurmurHash's end; against accidents, not against adversaries. */
function hashText(text: string): number {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (let i = 0; i < text.length; i++) {
    const letter = text.charCodeAt(i);
    a = Math.imul(a ^ letter, 0x9e3779b1);
    b = Math.imul(b ^ letter, 0x5f356495);
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return 2 ** 32 * (b & 0x1fffff) + (a >>> 0);
}
