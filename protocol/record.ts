import { type CborMap, checkShape, isMap } from "./cbor.ts";
import { FormatError, NotTrustedError, VersionError } from "./errors.ts";
import type { Hasher, PayloadId } from "./hash.ts";
import { recordBytesMax, rootBytesMax } from "./limits.ts";
import { decodeRoot, type ManifestRoot, payloadId } from "./manifest.ts";
import { parseUtf8, treePathFault, utf8Bytes } from "./paths.ts";
import { parseHead, type RecordHead } from "./record-head.ts";
import { variantFields, variantText } from "./variant.ts";
import { parseWithdrawal, type Withdrawal } from "./withdrawal.ts";

/** What a publisher says of a variant beside its tree. */
export interface RecordAttributes {
  readonly cachable: boolean;
  readonly relocatable: boolean;
  /** Packages beside which this one must not be localised (REP-003). */
  readonly nonLocalisableBeside: readonly string[];
  readonly mustLocalise: boolean;
  /** The variant's own requirements, as Rez writes them in its index file. */
  readonly variantRequires: readonly string[];
  readonly externalLinks: boolean;
}

/** A release: this variant is this tree, says its publisher. */
export interface ReleaseRecord extends RecordHead {
  readonly withdrawn?: never;
  readonly payload: PayloadId;
  readonly root: ManifestRoot;
  readonly rootBytes: Uint8Array;
  readonly attributes: RecordAttributes;
  /** Where the tree lies under the repository, for origins that read it in place. */
  readonly inPlaceRoot?: string;
}

/** What a publisher may say of a variant. Which of several holds is decided by their revisions alone (P6). */
export type SignedRecord = ReleaseRecord | Withdrawal;

/** A record and the signatures over it, as it is stored and sent: a DSSE envelope (secure-systems-lab/dsse, v1). */
export interface Envelope {
  readonly body: Uint8Array;
  /** `keyid`: hex SHA-256 of the raw public key. */
  readonly signatures: readonly { readonly keyid: string; readonly sig: Uint8Array }[];
}

/** What an envelope is around. */
export interface EnvelopeForm {
  readonly payloadType: string;
  /** For people. */
  readonly what: string;
  readonly bytesMax: number;
}

const recordForm: EnvelopeForm = {
  payloadType: "application/vnd.p2pcache.release+json;version=1",
  what: "a release record",
  bytesMax: recordBytesMax,
};

/** What DSSE signs: the pre-authentication encoding of type and body. */
export function signedBytes(body: Uint8Array, { payloadType }: EnvelopeForm = recordForm): Uint8Array {
  const head = utf8Bytes(`DSSEv1 ${payloadType.length} ${payloadType} ${body.length} `);
  const bytes = new Uint8Array(head.length + body.length);
  bytes.set(head);
  bytes.set(body, head.length);
  return bytes;
}

/** The JSON bytes that get signed. */
export function encodeRecord(record: Omit<ReleaseRecord, "root" | "payload">, root: ManifestRoot): Uint8Array {
  const { variant, revision, rootBytes, attributes, inPlaceRoot, releasedAt, supersedes } = record;
  const value = {
    version: 1,
    variant: variantFields(variant),
    revision,
    root: toBase64(rootBytes),
    totals: totalsOf(root),
    attributes,
  };
  return utf8Bytes(JSON.stringify({ ...value, inPlaceRoot, releasedAt, supersedes }));
}

/** The envelope's own JSON bytes. */
export function encodeEnvelope(envelope: Envelope, { payloadType }: EnvelopeForm = recordForm): Uint8Array {
  const signatures = envelope.signatures.map(({ keyid, sig }) => ({ keyid, sig: toBase64(sig) }));
  return utf8Bytes(JSON.stringify({ payloadType, payload: toBase64(envelope.body), signatures }));
}

/** Reads an envelope from outside; no signature is checked here. @throws {FormatError} when it breaks a rule. */
export function decodeEnvelope(bytes: Uint8Array, form: EnvelopeForm = recordForm): Envelope {
  const value = parseJson(bytes, form.bytesMax, `${form.what}'s envelope`);
  if (value.payloadType !== form.payloadType) throw new VersionError(form.what, String(value.payloadType).slice(0, 80));
  const { payload, signatures } = value;
  if (typeof payload !== "string" || !Array.isArray(signatures) || signatures.length > signaturesMax) {
    throw new FormatError(`${form.what}'s envelope lacks a payload or signatures`);
  }
  return { body: fromBase64(payload), signatures: signatures.map(parseSignature) };
}

/**
 * Reads a record's body. Only what `trustedRecord` answers may be acted on.
 * @throws {FormatError} when it breaks a rule; {VersionError} when its version is not ours.
 */
export function decodeRecord(body: Uint8Array, hasher: Hasher): SignedRecord {
  const value = parseJson(body, recordBytesMax, "a release record");
  if (value.version !== 1) throw new VersionError("a release record", value.version);
  return value.withdrawn === undefined ? parseRelease(value, hasher) : parseWithdrawal(value);
}

/** Reads a record that must be a release. @throws {FormatError} also for a withdrawal; {VersionError}. */
export function decodeRelease(body: Uint8Array, hasher: Hasher): ReleaseRecord {
  const record = decodeRecord(body, hasher);
  if (record.withdrawn) throw new FormatError(`${variantText(record.variant)} was withdrawn, which is no release`);
  return record;
}

/** Whether a signature over some bytes is that of a key; `publisher` is a raw Ed25519 key of 32 bytes. */
export type SignatureCheck = (publisher: Uint8Array, message: Uint8Array, signature: Uint8Array) => boolean;

/** Raw keys of publishers by key id, and what else a policy may have against a record. A map of keys is one. */
export interface PublisherKeys {
  /** Whether anybody's record counts at this time. */
  readonly takesAnybody?: boolean;
  has(keyid: string): boolean;
  get(keyid: string): Uint8Array | undefined;
  /** Why nothing counts that only keys which are not known have signed. */
  stranger?(keyids: readonly string[]): NotTrustedError;
  /** Why a record does not count although these keys' signatures are right; undefined where it does. */
  faultOf?(keyids: readonly string[], record: SignedRecord, body: Uint8Array): NotTrustedError | undefined;
  /** Why nothing counts at this time that is not on this machine already. */
  refusesNew?(): NotTrustedError | undefined;
}

/** Who may publish, or `undefined` for anybody (`trust.mode = "hash-only"`). */
export type Publishers = PublisherKeys | undefined;

/**
 * The record in an envelope, once somebody whom we trust has signed it.
 * @throws {NotTrustedError} when nobody has; {FormatError} when it breaks a rule.
 */
export function trustedRecord(
  envelope: Envelope,
  publishers: Publishers,
  verify: SignatureCheck,
  hasher: Hasher,
): SignedRecord {
  if (publishers === undefined || publishers.takesAnybody === true) return decodeRecord(envelope.body, hasher);
  const message = signedBytes(envelope.body);
  const known = envelope.signatures.filter(({ keyid }) => publishers.has(keyid));
  if (known.length === 0) {
    const keyid = envelope.signatures[0]?.keyid.slice(0, 16) ?? "nobody";
    const stranger = publishers.stranger?.(envelope.signatures.map((each) => each.keyid));
    if (stranger !== undefined) throw stranger;
    throw new NotTrustedError(`a release record is signed by ${keyid}, which is not a publisher that we trust`, {
      hint: "add the publisher's key to trust.publishers, if it should be trusted",
    });
  }
  const right = known.filter(({ keyid, sig }) => verify(publishers.get(keyid)!, message, sig));
  if (right.length === 0) {
    throw new NotTrustedError("a release record's signature is wrong", { code: "BAD_SIGNATURE" });
  }
  const record = decodeRecord(envelope.body, hasher);
  const keyids = right.map(({ keyid }) => keyid);
  const fault = publishers.faultOf?.(keyids, record, envelope.body);
  if (fault !== undefined) throw fault;
  return record;
}

/** Who vouches for an envelope, for people: the first publisher of those that are known, else whoever comes first. */
export function signerOf({ signatures }: Envelope, publishers: Publishers): string | undefined {
  return (signatures.find(({ keyid }) => publishers?.has(keyid)) ?? signatures[0])?.keyid;
}

/**
 * The one of two records of a variant that counts: the higher revision (P6); of two that say the same, the later one.
 * @throws {NotTrustedError} when both have one revision and name different trees, or only one of them names one: a
 * conflict, which names both.
 */
export function newerRecord<Some extends SignedRecord>(a: Some, b: Some): Some {
  if (a.revision === b.revision && payloadOf(a) !== payloadOf(b)) {
    // In an order of their own, whoever was asked first: one conflict is one text.
    const claims = [claimOf(a), claimOf(b)].sort();
    throw new NotTrustedError(
      `two records of ${variantText(a.variant)} revision ${a.revision} disagree: ${claims.join(" and ")}`,
      { code: "RECORD_CONFLICT", hint: "an admin must publish a higher revision that supersedes one of them" },
    );
  }
  if (a.revision !== b.revision) return b.revision > a.revision ? b : a;
  // Two words about one tree: which of them counts must not depend on who was asked first.
  return rank(b) > rank(a) ? b : a;
}

/** The tree that a record is about; undefined for a withdrawal, which takes back whatever there is. */
function payloadOf(record: SignedRecord): PayloadId | undefined {
  return record.withdrawn ? undefined : record.payload;
}

function claimOf(record: SignedRecord): string {
  return record.withdrawn ? `a withdrawal of payload ${record.supersedes}` : `payload ${record.payload}`;
}

function rank(record: SignedRecord): string {
  if (record.withdrawn) return JSON.stringify([record.releasedAt, record.reason, record.supersedes]);
  return JSON.stringify([record.releasedAt, record.attributes, record.inPlaceRoot]);
}

export const defaultAttributes: RecordAttributes = {
  cachable: true,
  relocatable: true,
  nonLocalisableBeside: [],
  mustLocalise: false,
  variantRequires: [],
  externalLinks: false,
};

const signaturesMax = 16;
const textsMax = 1000;
/** DSSE leaves it open; people are shown it. */
const printableKeyId = /^[\x21-\x7e]{1,256}$/;
const base64 = /^[A-Za-z0-9+/]*={0,2}$/;

function parseRelease(value: CborMap, hasher: Hasher): ReleaseRecord {
  const { root, totals, attributes, inPlaceRoot } = value;
  if (typeof root !== "string") throw new FormatError("a release record has no manifest root");
  if (inPlaceRoot !== undefined && !isTreePath(inPlaceRoot)) {
    throw new FormatError("a release record's inPlaceRoot is not a path under its repository");
  }
  const rootBytes = fromBase64(root);
  if (rootBytes.length > rootBytesMax) throw new FormatError("a release record's manifest root is too large");
  const manifestRoot = decodeRoot(rootBytes);
  checkTotals(totals, manifestRoot);
  return {
    ...parseHead(value),
    payload: payloadId(rootBytes, hasher),
    root: manifestRoot,
    rootBytes,
    attributes: parseAttributes(attributes),
    ...(inPlaceRoot === undefined ? {} : { inPlaceRoot }),
  };
}

/** What a reader of the JSON sees of the tree without decoding its root. */
function totalsOf({ entries, files, bytes, chunks }: ManifestRoot): Readonly<Record<string, number>> {
  return { entries, files, bytes, chunks };
}

function checkTotals(value: unknown, root: ManifestRoot): void {
  for (const [name, total] of Object.entries(totalsOf(root))) {
    if (isMap(value) && value[name] === total) continue;
    throw new FormatError(`a release record's total of ${name} is not that of its manifest root`);
  }
}

function parseAttributes(value: unknown): RecordAttributes {
  if (!isMap(value)) throw new FormatError("a release record has no attributes");
  const { cachable, relocatable, nonLocalisableBeside, mustLocalise, variantRequires, externalLinks } = value;
  for (const flag of [cachable, relocatable, mustLocalise, externalLinks]) {
    if (typeof flag !== "boolean") throw new FormatError("an attribute of a release record is neither true nor false");
  }
  for (const list of [nonLocalisableBeside, variantRequires]) {
    const isTexts = Array.isArray(list) && list.length <= textsMax && list.every((text) => typeof text === "string");
    if (!isTexts) throw new FormatError("an attribute of a release record is not a list of texts");
  }
  // Checked above, field by field.
  return {
    cachable,
    relocatable,
    nonLocalisableBeside,
    mustLocalise,
    variantRequires,
    externalLinks,
  } as RecordAttributes;
}

function isTreePath(value: unknown): value is string {
  return typeof value === "string" && treePathFault(value, utf8Bytes(value).length) === undefined;
}

function parseSignature(value: unknown): { keyid: string; sig: Uint8Array } {
  if (!isMap(value) || typeof value.keyid !== "string" || typeof value.sig !== "string") {
    throw new FormatError("a signature of a release record lacks its key id or its bytes");
  }
  if (!printableKeyId.test(value.keyid)) throw new FormatError("a signature of a release record has a strange key id");
  return { keyid: value.keyid, sig: fromBase64(value.sig) };
}

function parseJson(bytes: Uint8Array, bytesMax: number, what: string): CborMap {
  if (bytes.length > bytesMax) throw new FormatError(`${what} has ${bytes.length} bytes, more than ${bytesMax}`);
  let value: unknown;
  try {
    value = JSON.parse(parseUtf8(bytes, what));
  } catch (cause) {
    throw new FormatError(`${what} is not JSON`, { cause });
  }
  if (!isMap(value)) throw new FormatError(`${what} is not an object`);
  checkShape(value, what);
  return value;
}

function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(binary);
}

function fromBase64(text: string): Uint8Array {
  if (text.length % 4 !== 0 || !base64.test(text)) throw new FormatError("a text of a release record is not base64");
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  // A last digit has bits that say nothing: one text only for the same bytes.
  const tail = bytes.subarray(bytes.length - (bytes.length % 3));
  if (tail.length > 0 && toBase64(tail) !== text.slice(-4)) {
    throw new FormatError("a text of a release record is not base64 in its one form");
  }
  return bytes;
}
