import { type CborMap, checkShape, isCount, isMap } from "./cbor.ts";
import { FormatError, NotTrustedError, VersionError } from "./errors.ts";
import { isText } from "./fields.ts";
import { matchesGlob } from "./glob.ts";
import { type KeepPackage, parseKeepPackage } from "./keep-package.ts";
import { keepEntriesMax, keepListBytesMax, scopePatternsMax } from "./limits.ts";
import { parseUtf8, shown, utf8Bytes } from "./paths.ts";
import { type Envelope, type EnvelopeForm, type SignatureCheck, signedBytes } from "./record.ts";
import { parseUtcTime, utcText } from "./utc-time.ts";

/** What a toolset's owner writes: what must stay on disk, in order of importance, and on which machines. */
export interface KeepList {
  readonly toolset: string;
  /** Absent where all machines are meant. */
  readonly scope?: KeepScope;
  readonly keep: readonly KeepLine[];
}

export interface KeepLine {
  /** As it was written: `studio:maya-2026+<2027`. */
  readonly package: string;
  /** Machines fetch it before somebody asks for it. */
  readonly prefetch: boolean;
  readonly means: KeepPackage;
}

/** A machine is meant when each part that is there has a pattern (`*`, `?`) that fits. */
export interface KeepScope {
  readonly site?: readonly string[];
  readonly rack?: readonly string[];
  readonly host?: readonly string[];
}

/** What a machine is called, for scopes. */
export interface KeepPlace {
  readonly site: string;
  readonly rack: string;
  readonly host: string;
}

/** A list as it is signed: the highest version of a toolset counts (P6), until it expires. */
export interface SignedKeepList extends KeepList {
  /** From 1; never goes back. */
  readonly version: number;
  /** Who signed it, for people. */
  readonly signer: string;
  /** ISO 8601, UTC, whole seconds. */
  readonly signedAt: string;
  readonly expires: string;
}

/**
 * Checks what a TOML file says (or JSON of the same shape).
 * @throws {FormatError} naming the first thing that breaks a rule.
 */
export function parseKeepList(value: unknown): KeepList {
  if (!isMap(value)) throw new FormatError("a keep-alive list is a table");
  checkShape(value, "a keep-alive list");
  checkKeys(value, ["toolset", "scope", "keep"], "a keep-alive list");
  return listOf(value);
}

/** The JSON bytes that are signed. */
export function encodeKeepList({
  toolset,
  version,
  signer,
  signedAt,
  expires,
  scope,
  keep,
}: SignedKeepList): Uint8Array {
  const value = { version: 1, toolset, listVersion: version, signer, signedAt, expires, scope, keep: linesOf(keep) };
  return utf8Bytes(JSON.stringify(value));
}

/**
 * Reads what was signed. Only what comes with a signature of the toolset's key may be acted on.
 * @throws {FormatError} {VersionError}
 */
export function decodeKeepList(bytes: Uint8Array): SignedKeepList {
  if (bytes.length > keepListBytesMax) {
    throw new FormatError(`a keep-alive list has ${bytes.length} bytes, more than ${keepListBytesMax}`);
  }
  const value = parseJson(bytes);
  if (!isMap(value)) throw new FormatError("a keep-alive list is not an object");
  checkShape(value, "a keep-alive list");
  if (value.version !== 1) throw new VersionError("a keep-alive list", value.version);
  checkKeys(value, signedKeys, "a keep-alive list");
  const { listVersion, signer, signedAt, expires } = value;
  if (!isCount(listVersion, versionMax) || listVersion === 0) {
    throw new FormatError("a keep-alive list has an impossible version");
  }
  if (!isText(signer) || signer === "") throw new FormatError("a keep-alive list does not say who signed it");
  const times = { signedAt: timeOf(signedAt, "signedAt"), expires: timeOf(expires, "expires") };
  return { ...listOf(value), version: listVersion, signer, ...times };
}

/** A list that the network's policy carries: whoever verified the policy vouches for version, expiry and signer. */
export interface PolicyList {
  readonly toolset: string;
  readonly version: number;
  readonly expiresMs: number;
  /** For people. */
  readonly signer: string;
  /** JSON of the same shape as the TOML. */
  readonly bytes: Uint8Array;
}

/** The bytes of a list that a policy carries. */
export function encodePolicyList({ toolset, scope, keep }: KeepList): Uint8Array {
  return utf8Bytes(JSON.stringify({ toolset, scope, keep: linesOf(keep) }));
}

/** @throws {FormatError} also for a list of another toolset. */
export function decodePolicyList({ toolset, version, expiresMs, signer, bytes }: PolicyList): SignedKeepList {
  if (bytes.length > keepListBytesMax) throw new FormatError(`the keep-alive list of ${toolset} is too large`);
  const list = parseKeepList(parseJson(bytes));
  if (list.toolset !== toolset)
    throw new FormatError(`the policy has the list of ${list.toolset} as that of ${toolset}`);
  const expires = utcText(expiresMs);
  return { ...list, version, signer, signedAt: expires, expires };
}

/** Of the envelope around a signed list (decision 0086). */
export const keepListForm: EnvelopeForm = {
  payloadType: "application/vnd.p2pcache.keep-alive+json;version=1",
  what: "a keep-alive list",
  bytesMax: keepListBytesMax,
};

/**
 * The list in an envelope, once the key of its toolset has signed it.
 * @throws {NotTrustedError} {FormatError} {VersionError}
 */
export function trustedKeepList(
  envelope: Envelope,
  keys: ReadonlyMap<string, ToolsetKey>,
  verify: SignatureCheck,
): SignedKeepList {
  const list = decodeKeepList(envelope.body);
  const owner = keys.get(list.toolset);
  if (owner === undefined) {
    throw new NotTrustedError(`no key of the toolset ${list.toolset} is known`, {
      hint: `set keepalive.${list.toolset} to its owner's public key`,
    });
  }
  const message = signedBytes(envelope.body, keepListForm);
  const own = envelope.signatures.filter(({ keyid }) => keyid === owner.keyid);
  if (own.some(({ sig }) => verify(owner.key, message, sig))) return list;
  throw new NotTrustedError(`the keep-alive list of ${list.toolset} is not signed by its owner's key`, {
    code: "BAD_SIGNATURE",
  });
}

/** Who may sign a toolset's list: a raw Ed25519 key, and its name in signatures. */
export interface ToolsetKey {
  readonly keyid: string;
  readonly key: Uint8Array;
}

/** Whether a machine is one of those that a list is for. */
export function isForPlace({ scope }: KeepList, place: KeepPlace): boolean {
  if (scope === undefined) return true;
  return scopeParts.every((part) => scope[part]?.some((pattern) => matchesGlob(place[part], pattern)) ?? true);
}

/** An expired list loses its force. */
export function isExpired({ expires }: SignedKeepList, wallMs: number): boolean {
  return wallMs >= parseUtcTime(expires)!;
}

/**
 * Whether a list may take the place of the one that is known of its toolset; false where it is the same.
 * @throws {NotTrustedError} LIST_OUTDATED for an older version, LIST_CONFLICT for another of the same one (P6).
 */
export function checkNewer(known: Uint8Array | undefined, coming: Uint8Array): boolean {
  if (known === undefined) return true;
  const [before, after] = [decodeKeepList(known), decodeKeepList(coming)];
  if (after.version > before.version) return true;
  const what = `the keep-alive list of ${after.toolset}`;
  if (after.version < before.version) {
    throw new NotTrustedError(`${what} has version ${after.version}, but ${before.version} was seen already`, {
      code: "LIST_OUTDATED",
      hint: "sign it again with a higher version",
    });
  }
  if (sameBytes(known, coming)) return false;
  throw listConflict(after.toolset, after.version);
}

/** A version that was signed twice. */
export function listConflict(toolset: string, version: number): NotTrustedError {
  return new NotTrustedError(`two keep-alive lists of ${toolset} have version ${version}`, {
    code: "LIST_CONFLICT",
    hint: "the toolset's owner must sign a higher version",
  });
}

/** Whether a text can name a toolset: it becomes a part of paths, and of a role's name. */
export function isToolset(text: unknown): text is string {
  return typeof text === "string" && toolsetForm.test(text);
}

function linesOf(keep: readonly KeepLine[]): object[] {
  return keep.map(({ package: text, prefetch }) => ({ package: text, ...(prefetch ? { prefetch } : {}) }));
}

function listOf({ toolset, scope, keep }: CborMap): KeepList {
  if (!isToolset(toolset)) {
    throw new FormatError("a keep-alive list's toolset is up to 64 of a-z, 0-9, dots, dashes and underscores");
  }
  if (!Array.isArray(keep) || keep.length > keepEntriesMax) {
    throw new FormatError(`a keep-alive list has up to ${keepEntriesMax} [[keep]] tables`);
  }
  const lines = keep.map((line: unknown, i) => parseLine(line, i + 1));
  return { toolset, ...(scope === undefined ? {} : { scope: parseScope(scope) }), keep: lines };
}

function parseLine(value: unknown, rank: number): KeepLine {
  const where = `[[keep]] number ${rank}`;
  if (!isMap(value)) throw new FormatError(`${where} is not a table`);
  checkKeys(value, ["package", "prefetch"], where);
  const { package: text, prefetch = false } = value;
  if (typeof text !== "string") throw new FormatError(`${where} has no package`);
  if (typeof prefetch !== "boolean") throw new FormatError(`${where}: prefetch is neither true nor false`);
  try {
    return { package: text, prefetch, means: parseKeepPackage(text) };
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError(`${where}: ${cause.message}`, { cause });
  }
}

function parseScope(value: unknown): KeepScope {
  if (!isMap(value)) throw new FormatError("a keep-alive list's scope is a table");
  checkKeys(value, scopeParts, "a keep-alive list's scope");
  const scope: { site?: string[]; rack?: string[]; host?: string[] } = {};
  for (const part of scopeParts) {
    const given = value[part];
    if (given === undefined) continue;
    const patterns: unknown[] = Array.isArray(given) ? given : [given];
    const isRight = patterns.length > 0 && patterns.length <= scopePatternsMax && patterns.every((one) => isText(one));
    if (!isRight) throw new FormatError(`a keep-alive list's scope.${part} is a pattern, or up to ${scopePatternsMax}`);
    scope[part] = patterns as string[];
  }
  return scope;
}

function checkKeys(value: CborMap, known: readonly string[], what: string): void {
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new FormatError(`${what} has no ${shown(unknown)}; it may have ${known.join(", ")}`);
}

function timeOf(value: unknown, field: string): string {
  if (typeof value === "string" && parseUtcTime(value) !== undefined) return value;
  throw new FormatError(`a keep-alive list's ${field} is not a time like 2026-11-21T08:00:00Z`);
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(parseUtf8(bytes, "a keep-alive list"));
  } catch (cause) {
    throw new FormatError("a keep-alive list is not JSON", { cause });
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

const scopeParts = ["site", "rack", "host"] as const;
const signedKeys = ["version", "toolset", "listVersion", "signer", "signedAt", "expires", "scope", "keep"];
const toolsetForm = /^[a-z0-9][a-z0-9._-]{0,63}$/;
/** One a second for thirty years. */
const versionMax = 1_000_000_000;
