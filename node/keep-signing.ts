import { readFile } from "node:fs/promises";
import { parse, TomlError } from "smol-toml";
import { NotTrustedError, UnusableError, UsageError } from "../protocol/errors.ts";
import {
  checkNewer,
  decodeKeepList,
  encodeKeepList,
  encodePolicyList,
  type KeepList,
  keepListForm,
  listConflict,
  parseKeepList,
  type SignedKeepList,
  type ToolsetKey,
  trustedKeepList,
} from "../protocol/keep-alive.ts";
import { keepListBytesMax } from "../protocol/limits.ts";
import { decodeEnvelope, encodeEnvelope, signedBytes } from "../protocol/record.ts";
import { keepListName } from "./keep-alive/origin-list-source.ts";
import { putKeepList } from "./keep-alive/put-list.ts";
import { toolsetKey } from "./keep-lists.ts";
import { keyId, loadPublisherKey, sign, verifySignature } from "./keys.ts";
import type { WaitOptions } from "./ports.ts";
import { openPublishing } from "./publishing.ts";
import type { Settings } from "./settings/schema.ts";
import type { PolicyToolset } from "./trust-admin.ts";

/** What `keepalive sign` is told. */
export interface SignRequest {
  readonly list: KeepList;
  /** The next one unless given. */
  readonly version?: number;
  /** Of the version before, wherever one is known. */
  readonly before: number;
  readonly signer: string;
  readonly keyFile: string;
  readonly days: number;
  readonly wallMs: number;
}

/** A list that was signed, and the envelope around it. */
export interface SignedFile {
  readonly list: SignedKeepList;
  readonly envelope: Uint8Array;
}

/**
 * Reads a list as its owner writes it. @throws {UsageError} where there is no such file, or it is no TOML; {FormatError}.
 */
export async function readKeepToml(path: string): Promise<KeepList> {
  const text = Buffer.from(await readBounded(path)).toString("utf8");
  try {
    return parseKeepList(parse(text));
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const [reason = ""] = cause.message.split("\n");
    throw new UsageError(`${path}, line ${cause.line}: ${reason}`, { cause });
  }
}

/** Reads a signed list without checking who signed it. @throws {UsageError} {FormatError} {VersionError} */
export async function readSignedList(path: string): Promise<SignedFile> {
  const envelope = await readBounded(path);
  return { envelope, list: decodeKeepList(decodeEnvelope(envelope, keepListForm).body) };
}

/** Signs a list as its toolset's owner. @throws {UsageError} for the key; {NotTrustedError} for a version that goes back. */
export async function signKeepList(request: SignRequest): Promise<SignedFile> {
  const { list, before, version = before + 1, signer, keyFile, days, wallMs } = request;
  if (version <= before) {
    throw new NotTrustedError(`version ${before} of the list of ${list.toolset} was signed already`, {
      code: "LIST_OUTDATED",
      hint: `sign it as version ${before + 1}, or leave --list-version out`,
    });
  }
  const key = await loadPublisherKey(keyFile);
  const times = { signedAt: isoSeconds(wallMs), expires: isoSeconds(wallMs + days * dayMs) };
  const signed: SignedKeepList = { ...list, version, signer, ...times };
  const body = encodeKeepList(signed);
  // It is refused here, and not by every machine.
  decodeKeepList(body);
  const signatures = [{ keyid: keyId(key.rawPublic), sig: sign(key, signedBytes(body, keepListForm)) }];
  return { list: signed, envelope: encodeEnvelope({ body, signatures }, keepListForm) };
}

/**
 * The list, if its toolset's owner has signed it: by the key that is configured, or where none is by the policy at the
 * origin. @throws {NotTrustedError}; what `policyToolset` of `trust-admin` throws.
 */
export async function verifyKeepList(settings: Settings, file: SignedFile): Promise<SignedKeepList> {
  const { toolset } = file.list;
  const configured = settings.keepalive.keys.get(toolset);
  if (configured !== undefined) return signedByOneOf(file, [toolsetKey(configured)]);
  const hasFolder = settings.origins.some(({ kind }) => kind === "folder");
  const known = hasFolder ? await inPolicy(settings, toolset) : undefined;
  return signedByOneOf(file, known === undefined || known === "no root" ? [] : ownersOf(known));
}

/** The newest version of a toolset's list at the origin that is published to; 0 where it has none. Throws as `publishKeepList`. */
export async function publishedVersion(
  settings: Settings,
  toolset: string,
  options: WaitOptions = {},
): Promise<number> {
  const known = await inPolicy(settings, toolset);
  const beside = await publishedList(settings, toolset, options);
  const version = known === undefined || known === "no root" ? 0 : known.version;
  return Math.max(version, beside?.list.version ?? 0);
}

/** What came of publishing a list. */
export interface PublishedList {
  readonly outcome: "published" | "already-published";
  /** `policy`: as a part of the network's policy, signed anew with the toolset's key. */
  readonly form: "policy" | "envelope";
  /** Whether machines see it: without the policy's online key it waits for the next `trust refresh`. */
  readonly isInForce: boolean;
  readonly warnings: readonly string[];
}

/**
 * Puts a signed list where every machine finds it, in the place of an older one: into the network's policy, where that
 * delegates it, else beside.
 * @param keyFile the toolset's private key, for the policy.
 * @throws {NotTrustedError} LIST_OUTDATED, LIST_CONFLICT, or where its signature is not the owner's; {UsageError}
 * KEY_MISSING; what `changePolicy` of `trust-admin` throws.
 */
export async function publishKeepList(settings: Settings, file: SignedFile, keyFile: string): Promise<PublishedList> {
  const known = await inPolicy(settings, file.list.toolset);
  if (known !== undefined && known !== "no root") return await publishInPolicy(settings, file, known, keyFile);
  const warnings =
    known === undefined
      ? []
      : ["the origin has a policy, and this machine trusts no root of it (trust.root): the list was put beside it"];
  const isNew = await publishBeside(settings, file);
  const outcome = isNew ? "published" : "already-published";
  return { outcome, form: "envelope", isInForce: true, warnings };
}

async function publishInPolicy(
  settings: Settings,
  file: SignedFile,
  known: PolicyToolset,
  keyFile: string,
): Promise<PublishedList> {
  const { list } = file;
  const { toolset, version, expires } = signedByOneOf(file, ownersOf(known));
  const bytes = encodePolicyList(list);
  if (known.list?.version === version) {
    const isSame = known.list.expires === expires && Buffer.from(known.list.bytes).equals(bytes);
    if (!isSame) throw listConflict(toolset, version);
    return { outcome: "already-published", form: "policy", isInForce: known.isInForce, warnings: [] };
  }
  const { changePolicy } = await import("./trust-admin.ts");
  const change = { kind: "list", toolset, bytes, version, expiresMs: Date.parse(expires) } as const;
  const { isInForce, warnings } = await changePolicy(settings, change, { keyFiles: [keyFile] });
  return { outcome: "published", form: "policy", isInForce, warnings };
}

/** Answers whether it was new there. */
async function publishBeside(settings: Settings, file: SignedFile): Promise<boolean> {
  const { toolset } = file.list;
  if (settings.keepalive.keys.has(toolset)) await verifyKeepList(settings, file);
  const there = await publishedList(settings, toolset);
  const body = (envelope: Uint8Array) => decodeEnvelope(envelope, keepListForm).body;
  if (!checkNewer(there === undefined ? undefined : body(there.envelope), body(file.envelope))) return false;
  // A folder becomes a repository with its first release.
  const { path } = await openPublishing(settings, { publishes: false });
  await putKeepList(path, toolset, file.envelope);
  return true;
}

/** What lies beside the policy; undefined where nothing does. @throws {UnreachableError} {UsageError} */
async function publishedList(
  settings: Settings,
  toolset: string,
  options: WaitOptions = {},
): Promise<SignedFile | undefined> {
  const { repository } = await openPublishing(settings);
  const envelope = await repository.policyFile?.(keepListName(toolset), options);
  if (envelope === undefined) return undefined;
  return { envelope, list: decodeKeepList(decodeEnvelope(envelope, keepListForm).body) };
}

/** What the policy at the origin says of a toolset; `no root`: there is one that this machine cannot verify. */
async function inPolicy(settings: Settings, toolset: string): Promise<PolicyToolset | "no root" | undefined> {
  // TUF's libraries are loaded by whoever asks for them only: a list is read and signed without.
  const { policyToolset } = await import("./trust-admin.ts");
  try {
    return await policyToolset(settings, toolset);
  } catch (error) {
    if (error instanceof UsageError && error.code === "NO_ROOT") return "no root";
    throw error;
  }
}

function ownersOf({ keys }: PolicyToolset): ToolsetKey[] {
  return [...keys].map(([keyid, key]) => ({ keyid, key }));
}

/** @throws {NotTrustedError} unless one of these keys has signed it. */
function signedByOneOf({ envelope, list }: SignedFile, owners: readonly ToolsetKey[]): SignedKeepList {
  const decoded = decodeEnvelope(envelope, keepListForm);
  const owner = owners.find(({ keyid }) => decoded.signatures.some((each) => each.keyid === keyid)) ?? owners[0];
  const keys = new Map(owner === undefined ? [] : [[list.toolset, owner] as const]);
  return trustedKeepList(decoded, keys, verifySignature);
}

async function readBounded(path: string): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new UsageError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (bytes.length <= keepListBytesMax) return bytes;
  throw new UnusableError(`${path} has ${bytes.length} bytes, more than a keep-alive list may have`);
}

function isoSeconds(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

const dayMs = 86_400_000;
