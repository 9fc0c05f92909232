import { FormatError } from "./errors.ts";
import { nameBytesMax, pathBytesMax } from "./limits.ts";

/**
 * Reads a path inside a tree from its bytes: UTF-8, relative, parts split by `/`, none of them empty, `.` or `..`,
 * without NUL or newline (DESIGN section 3).
 * @throws {FormatError} naming the path and the rule that it breaks.
 */
export function parseTreePath(bytes: Uint8Array): string {
  const path = parseUtf8(bytes, "a path");
  const fault = treePathFault(path, bytes.length);
  if (fault !== undefined) throw new FormatError(`the path ${shown(path)} ${fault}`, { code: "BAD_PATH" });
  return path;
}

/** What is wrong with a path inside a tree, or undefined. `byteLength` is that of its UTF-8. */
export function treePathFault(path: string, byteLength: number): string | undefined {
  if (byteLength > pathBytesMax) return `is longer than ${pathBytesMax} bytes`;
  if (path.startsWith("/")) return "is absolute";
  if (path.includes("\0")) return "has a NUL in it";
  if (path.includes("\n")) return "has a newline in it";
  for (const part of path.split("/")) {
    if (part === "") return "has an empty part";
    if (part === "." || part === "..") return `has a part ${part}`;
    // One UTF-16 unit is at most 3 bytes of UTF-8, so short parts need no counting.
    if (part.length * 3 > nameBytesMax && utf8.encode(part).length > nameBytesMax) {
      return `has a part longer than ${nameBytesMax} bytes`;
    }
  }
  return undefined;
}

/** Reads a link's target: UTF-8, not empty, without NUL. @throws {FormatError} */
export function parseLinkTarget(bytes: Uint8Array): string {
  const target = parseUtf8(bytes, "a link's target");
  if (target === "" || bytes.length > pathBytesMax || target.includes("\0")) {
    throw new FormatError(`the link target ${shown(target)} is empty, too long or has a NUL in it`, {
      code: "BAD_PATH",
    });
  }
  return target;
}

/** Decodes UTF-8 exactly, keeping a byte order mark. @throws {FormatError} when the bytes are not UTF-8. */
export function parseUtf8(bytes: Uint8Array, what: string): string {
  try {
    return strictUtf8.decode(bytes);
  } catch (cause) {
    throw new FormatError(`${what} is not UTF-8`, { code: "BAD_PATH", cause });
  }
}

/** The bytes of a text in UTF-8. */
export function utf8Bytes(text: string): Uint8Array {
  return utf8.encode(text);
}

/** Orders two texts as their UTF-8 bytes are ordered, without encoding them. */
export function compareUtf8(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // Surrogates stand for code points above all others, though their units are not the greatest.
    const xIsSurrogate = x >= 0xd800 && x <= 0xdfff;
    const yIsSurrogate = y >= 0xd800 && y <= 0xdfff;
    if (xIsSurrogate !== yIsSurrogate) return xIsSurrogate ? 1 : -1;
    return x - y;
  }
  return a.length - b.length;
}

/** The directory part of a path inside a tree; empty for the tree's top. */
export function parentPath(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

/** Two names that a case-insensitive target would take for one have one folded form (Unicode case pairs, then NFC). */
export function foldedPath(path: string): string {
  if (plain.test(path)) return path;
  return path.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");
}

/**
 * Whether following a link of the tree, as the kernel would, ever leaves the tree. `links` maps each link's path to its
 * target; everything else is taken for a directory or a missing name. A loop does not leave.
 */
export function linkLeavesTree(path: string, links: ReadonlyMap<string, string>): boolean {
  let at = parentParts(path);
  const pending = reversedParts(links.get(path) ?? "");
  if (pending === undefined) return true;
  let hops = 0;
  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    if (part === "" || part === ".") continue;
    if (part === "..") {
      if (at.length === 0) return true;
      at = at.slice(0, -1);
      continue;
    }
    at = [...at, part];
    const target = links.get(at.join("/"));
    if (target === undefined) continue;
    if (++hops > linkHopsMax) return false;
    const inner = reversedParts(target);
    if (inner === undefined) return true;
    pending.push(...inner);
    at = at.slice(0, -1);
  }
  return false;
}

/** A path as messages show it: quoted, controls escaped, not longer than a line. */
export function shown(path: string): string {
  return JSON.stringify(path.length > 120 ? `${path.slice(0, 120)}…` : path);
}

/** The kernel follows 40 links and then gives up (path_resolution(7)). */
const linkHopsMax = 40;
const plain = /^[a-z0-9_./+@~-]*$/;
const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function parentParts(path: string): string[] {
  const parent = parentPath(path);
  return parent === "" ? [] : parent.split("/");
}

/** The parts of a relative target, last first; undefined for an absolute one. */
function reversedParts(target: string): string[] | undefined {
  return target.startsWith("/") ? undefined : target.split("/").reverse();
}
