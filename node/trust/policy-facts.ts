import type { StoredPolicy } from "./policy-state.ts";

/** One role of a policy, for people and for decisions. */
export interface RoleFacts {
  readonly role: string;
  readonly version: number;
  /** Milliseconds since 1970. */
  readonly expiresMs: number;
  readonly keyids: readonly string[];
  readonly threshold: number;
  /** Whether the policy is one without it: a keep-alive list. */
  readonly isOptional: boolean;
}

/** What can be said of a verified policy without reading TUF's metadata again. */
export interface PolicyFacts {
  readonly roles: readonly RoleFacts[];
}

/** Whether a policy is in force, and until when. */
export interface PolicyTerm {
  /** When the first of its roles expires; milliseconds since 1970. */
  readonly expiresMs: number;
  readonly role: string;
  /** From when on people are warned. */
  readonly warnMs: number;
}

/** The role whose end is the policy's: keep-alive lists lose force by themselves, and end nothing else. */
export function termOf({ roles }: PolicyFacts): PolicyTerm | undefined {
  const needed = roles.filter(({ isOptional }) => !isOptional);
  const [first] = [...needed].sort((a, b) => a.expiresMs - b.expiresMs);
  if (first === undefined) return undefined;
  const warnMs = Math.min(...needed.map(({ role, expiresMs }) => expiresMs - warnedMs(role)));
  return { expiresMs: first.expiresMs, role: first.role, warnMs };
}

/** What time it is for whether something has expired: a clock that was set back brings nothing into force again. */
export function effectiveMs(stored: Pick<StoredPolicy, "newestSignedMs"> | undefined, wallMs: number): number {
  return Math.max(wallMs, stored?.newestSignedMs ?? 0);
}

/** The content of a policy's targets by path, as their files' names say: only what was found right is stored. */
export function storedContents({ files }: StoredPolicy): Map<string, Uint8Array> {
  const contents = new Map<string, Uint8Array>();
  for (const [name, bytes] of files) {
    const found = /^targets\/((?:[a-z]+\/)?)[0-9a-f]{64}\.(.+)$/.exec(name);
    if (found !== null) contents.set(`${found[1]}${found[2]}`, bytes);
  }
  return contents;
}

/** The timestamp is signed anew by cron, at half of its 30 days (DESIGN section 3); others by people, who need a month. */
function warnedMs(role: string): number {
  const days = role === "timestamp" ? 15 : role === "snapshot" ? 7 : 30;
  return days * 24 * 3_600_000;
}
