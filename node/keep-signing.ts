import { readFile } from "node:fs/promises";
import { parse, TomlError } from "smol-toml";
import { NotTrustedError, UnusableError, UsageError } from "../protocol/errors.ts";
import {
  checkNewer,
  decodeKeepList,
  encodeKeepList,
  type KeepList,
  keepListForm,
  parseKeepList,
  type SignedKeepList,
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

/** The list, if the key that is configured for its toolset has signed it. @throws {NotTrustedError} */
export function verifyKeepList(settings: Settings, { envelope }: SignedFile): SignedKeepList {
  const keys = new Map([...settings.keepalive.keys].map(([toolset, text]) => [toolset, toolsetKey(text)]));
  return trustedKeepList(decodeEnvelope(envelope, keepListForm), keys, verifySignature);
}

/** What lies at the origin that is published to; undefined where nothing does. @throws {UnreachableError} {UsageError} */
export async function publishedList(
  settings: Settings,
  toolset: string,
  options: WaitOptions = {},
): Promise<SignedFile | undefined> {
  const { repository } = await openPublishing(settings);
  const envelope = await repository.policyFile?.(keepListName(toolset), options);
  if (envelope === undefined) return undefined;
  return { envelope, list: decodeKeepList(decodeEnvelope(envelope, keepListForm).body) };
}

/**
 * Puts a signed list where every machine finds it, in the place of an older one. Answers whether it was new there.
 * @throws {NotTrustedError} LIST_OUTDATED, LIST_CONFLICT, or where its signature is not the configured key's.
 */
export async function publishKeepList(settings: Settings, file: SignedFile): Promise<boolean> {
  if (settings.keepalive.keys.has(file.list.toolset)) verifyKeepList(settings, file);
  const { toolset } = file.list;
  const there = await publishedList(settings, toolset);
  const body = (envelope: Uint8Array) => decodeEnvelope(envelope, keepListForm).body;
  if (!checkNewer(there === undefined ? undefined : body(there.envelope), body(file.envelope))) return false;
  // A folder becomes a repository with its first release.
  const { path } = await openPublishing(settings, { publishes: false });
  await putKeepList(path, toolset, file.envelope);
  return true;
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
