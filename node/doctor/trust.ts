import { statSync } from "node:fs";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";

export interface TrustFacts {
  readonly mode: "signed" | "hash-only";
  readonly publishers: number;
  /** Whether `trust.root` is set. */
  readonly hasRoot: boolean;
  /** Of the policy that this machine follows: its term, and what `status` warns of. */
  readonly policy: { readonly state: "in-force" | "ending" | "expired"; readonly expires: string } | undefined;
  readonly warning: string | undefined;
  /** The node's own key, which its first start makes. */
  readonly nodeKey: string;
}

/** Whose releases are taken, and whether the node's key is its owner's alone. */
export function* checkTrust(facts: TrustFacts): Generator<CheckLine> {
  yield* checkPublishers(facts);
  yield* checkNodeKey(facts.nodeKey);
}

function* checkPublishers({ mode, publishers, hasRoot, policy, warning: text }: TrustFacts): Generator<CheckLine> {
  const refresh = "an admin signs it anew: `p2pcache trust refresh`, from cron where the online key is";
  if (policy !== undefined) {
    if (policy.state === "in-force") yield ok("trust", `the policy is in force until ${policy.expires}`);
    else if (policy.state === "ending") yield warning("trust", text ?? "the policy comes to its end", refresh);
    else yield failure("trust", text ?? "the policy has expired", refresh);
  } else if (hasRoot) {
    const hint = "start the node where an origin, or a peer, has the policy";
    yield warning("trust", "trust.root is set, and no policy was followed yet: every fetch is refused", hint);
  } else if (mode === "signed" && publishers === 0) {
    yield failure(
      "trust",
      "nobody's releases are trusted: every fetch is refused",
      "write the publishers' keys into trust.publishers; `p2pcache key show` prints one where it was made",
    );
  } else if (mode === "signed") yield ok("trust", `releases of ${publishers} publishers are taken`);
}

function* checkNodeKey(nodeKey: string): Generator<CheckLine> {
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
