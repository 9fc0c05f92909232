import { readFile } from "node:fs/promises";
import { UsageError } from "../../protocol/errors.ts";
import { policyFileBytesMax } from "../../protocol/limits.ts";
import { metadataName } from "./policy-names.ts";
import { PolicyState } from "./policy-state.ts";
import type { TrustFloor } from "./trust-floor.ts";
import { rootOf } from "./tuf.ts";
import { checkSigned } from "./verify-policy.ts";

/** Where a machine that has no policy yet takes its first root from. */
export interface FirstContact {
  readonly statePath: string;
  /** `trust.root`; undefined where none is configured. */
  readonly rootFile: string | undefined;
  readonly nowMs: number;
  /** What was seen before, also where the state directory has gone. */
  readonly floor?: TrustFloor;
}

/**
 * What this machine has verified as a node; without anything the configured root, and without that nothing.
 * @throws {UsageError} for a root that is none; {UnusableError}, also where what was seen before cannot be told.
 */
export async function openNodeState({ statePath, rootFile, nowMs, floor }: FirstContact): Promise<PolicyState> {
  const state = await PolicyState.open(statePath);
  if (state.stored !== undefined || rootFile === undefined) return state;
  floor?.checkReadable();
  await trustRoot(state, await readRoot(rootFile), nowMs, floor?.floor?.newestSignedMs);
  return state;
}

/** What has been verified here by who changes policies; it begins with what the node knows. Throws as `openNodeState`. */
export async function openAuthorState({ statePath, rootFile, nowMs }: FirstContact): Promise<PolicyState> {
  const state = await PolicyState.open(statePath, "policy-author");
  if (state.stored !== undefined) return state;
  const known = await PolicyState.look(statePath);
  if (known !== undefined) await state.save(known);
  else if (rootFile !== undefined) await trustRoot(state, await readRoot(rootFile), nowMs);
  return state;
}

/**
 * Takes a root for right from now on, whatever was known before: nothing leads to it but the caller's word.
 * @param newestSignedMs the newest time that a timestamp was signed at, where that is known.
 */
export async function trustRoot(
  state: PolicyState,
  root: Uint8Array,
  nowMs: number,
  newestSignedMs = 0,
): Promise<void> {
  const metadata = rootOf(root);
  checkSigned(metadata, "root", metadata);
  const files = new Map([[metadataName("root", metadata.signed.version), root]]);
  const since = new Date(nowMs).toISOString();
  await state.save({ files, newestSignedMs, since, facts: { roles: [] } });
}

/** @throws {UsageError} where there is no such file. */
export async function readRoot(path: string): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(await readFile(path));
  } catch (cause) {
    throw new UsageError(`the policy's root cannot be read: ${(cause as Error).message}`, {
      cause,
      hint: "it is the file <version>.root.json in the policy of an origin",
    });
  }
  if (bytes.length > policyFileBytesMax) throw new UsageError(`${path} is too large to be a policy's root`);
  return bytes;
}
