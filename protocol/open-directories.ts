import { foldedPath } from "./paths.ts";

/**
 * The directories that may still get entries while a tree is gone through in the order of its path bytes. All below one
 * directory stands together in that order, so what has been left can be forgotten: memory grows with the widest
 * directories on one path, not with the tree.
 */
export class OpenDirectories {
  /** The tree's top, and below it each directory on the way to the last entry. */
  readonly #open: OpenDirectory[] = [newDirectory("")];

  /**
   * Takes in the next entry. Answers whether it stands in a directory of the tree, and whether a case-insensitive
   * target would take its name for that of a sibling.
   */
  enter(path: string, isDirectory: boolean): { readonly hasParent: boolean; readonly collides: boolean } {
    const slash = path.lastIndexOf("/") + 1;
    const parent = this.#parentOf(path.slice(0, slash));
    if (parent === undefined) return { hasParent: false, collides: false };
    const name = path.slice(slash);
    const folded = foldedPath(name);
    const collides = parent.folded.has(folded);
    parent.folded.add(folded);
    if (isDirectory) parent.directories.add(name);
    return { hasParent: true, collides };
  }

  /** The directory whose entries begin with `prefix`, opened if its own entry has come; undefined if it has not. */
  #parentOf(prefix: string): OpenDirectory | undefined {
    while (!prefix.startsWith(this.#open.at(-1)!.prefix)) this.#open.pop();
    const last = this.#open.at(-1)!;
    if (last.prefix === prefix) return last;
    const name = prefix.slice(last.prefix.length, -1);
    if (!last.directories.has(name)) return undefined;
    const opened = newDirectory(prefix);
    this.#open.push(opened);
    return opened;
  }
}

interface OpenDirectory {
  /** Its path with a slash at the end; empty for the tree's top. */
  readonly prefix: string;
  readonly directories: Set<string>;
  readonly folded: Set<string>;
}

function newDirectory(prefix: string): OpenDirectory {
  return { prefix, directories: new Set(), folded: new Set() };
}
