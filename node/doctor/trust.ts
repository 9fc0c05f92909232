import { statSync } from "node:fs";
import { type CheckLine, failure, ok } from "./check-line.ts";

export interface TrustFacts {
  readonly mode: "signed" | "hash-only";
  readonly publishers: number;
  /** The node's own key, which its first start makes. */
  readonly nodeKey: string;
}

/** Whose releases are taken, and whether the node's key is its owner's alone. */
export function* checkTrust({ mode, publishers, nodeKey }: TrustFacts): Generator<CheckLine> {
  if (mode === "signed" && publishers === 0) {
    yield failure(
      "trust",
      "nobody's releases are trusted: every fetch is refused",
      "write the publishers' keys into trust.publishers; `p2pcache key show` prints one where it was made",
    );
  } else if (mode === "signed") yield ok("trust", `releases of ${publishers} publishers are taken`);
  const stat = statOf(nodeKey);
  if (stat === undefined) return;
  if ((stat.mode & 0o077) !== 0) {
    const octal = (stat.mode & 0o777).toString(8).padStart(4, "0");
    const hint = `chmod 600 ${nodeKey}, and delete it for a new one if somebody may have read it`;
    yield failure("trust", `the node's key ${nodeKey} may be used by others (mode ${octal})`, hint);
  } else if (stat.uid !== process.geteuid?.() && process.geteuid?.() !== 0) {
    yield failure("trust", `the node's key ${nodeKey} belongs to user ${stat.uid}`, `run the node as user ${stat.uid}`);
  } else yield ok("trust", `the node's key ${nodeKey} is its owner's alone`);
}

function statOf(path: string): { readonly mode: number; readonly uid: number } | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    // In a state directory of another user, of which `state` tells.
    return undefined;
  }
}
