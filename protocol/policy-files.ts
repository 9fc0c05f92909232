import { type CborMap, checkShape, isMap } from "./cbor.ts";
import { FormatError, VersionError } from "./errors.ts";
import { isListOf, isPeerName, isText } from "./fields.ts";
import { parsePayloadId } from "./hash.ts";
import {
  denialsMax,
  membersPerSiteMax,
  policyFileBytesMax,
  publishersMax,
  retiredRecordsPerFileMax,
} from "./limits.ts";
import { parseUtf8, utf8Bytes } from "./paths.ts";
import type { Denial, MemberRule, PolicyContent, PublisherRule, RetiredPublisher, RevokedPublisher } from "./policy.ts";

/** What needs more than this room has. */
export interface PolicyReaders {
  /** Reads a public key's text (`ed25519:…`). @throws for a text that is none. */
  readonly key: (text: string) => { readonly keyid: string; readonly key: Uint8Array };
  /** Milliseconds since 1970 of a time in ISO 8601, UTC. */
  readonly timeMs: (text: string) => number;
}

/** `publishers.json` as it is written: what is heavy of a retired key lies in files of its own. */
export interface PublishersFile {
  readonly publishers: readonly { readonly key: string; readonly names: readonly string[]; readonly label: string }[];
  readonly retired: readonly {
    readonly key: string;
    readonly names: readonly string[];
    readonly label: string;
    readonly at: string;
    /** How many lists of records there are. */
    readonly lists: number;
  }[];
  readonly revoked: readonly { readonly key: string; readonly at: string; readonly reason: string }[];
}

export interface MemberLine {
  readonly peer: string;
  readonly labels: readonly string[];
  readonly until?: string;
}

export const publishersPath = "publishers.json";
export const denyPath = "deny.json";

/** A list of records that a retired key had signed. */
export function retiredPath(keyid: string, list: number): string {
  return `publishers/${keyid}.${list}.json`;
}

export function membersPath(site: string): string {
  return `members/${site}.json`;
}

/** Any file of the policy that is ours, as it lies among the targets. */
export function encodePolicyFile(value: object): Uint8Array {
  return utf8Bytes(`${JSON.stringify({ version: 1, ...value }, undefined, 1)}\n`);
}

/** @throws {FormatError} when it breaks a rule; {VersionError}. */
export function parsePublishersFile(bytes: Uint8Array): PublishersFile {
  const value = parse(bytes, "the policy's publishers");
  const { publishers, retired, revoked } = value;
  if (
    !isListOf(publishers, isPublisherLine, publishersMax) ||
    !isListOf(retired, isRetiredLine, publishersMax) ||
    !isListOf(revoked, isRevokedLine, publishersMax)
  ) {
    throw new FormatError("the policy's publishers break a rule of their format");
  }
  return { publishers, retired, revoked };
}

/** The digests in one list of a retired key's records. @throws {FormatError} {VersionError} */
function parseRetiredRecords(bytes: Uint8Array): readonly string[] {
  const { records } = parse(bytes, "the records of a retired publisher");
  if (isListOf(records, isDigestText, retiredRecordsPerFileMax)) return records;
  throw new FormatError("the records of a retired publisher are not a list of digests");
}

/** @throws {FormatError} {VersionError} */
export function parseMembersFile(bytes: Uint8Array): readonly MemberLine[] {
  const { members } = parse(bytes, "the policy's members");
  if (isListOf(members, isMemberLine, membersPerSiteMax)) return members;
  throw new FormatError("the policy's members break a rule of their format");
}

/** @throws {FormatError} {VersionError} */
export function parseDenyFile(bytes: Uint8Array): readonly Denial[] {
  const { denied } = parse(bytes, "the policy's denied payloads");
  if (!isListOf(denied, isDenialLine, denialsMax)) {
    throw new FormatError("the policy's denied payloads break a rule of their format");
  }
  return denied.map((line) => ({ ...line, payload: parsePayloadId(line.payload) }));
}

/**
 * What a policy's targets say together. Absent ones say nothing.
 * @param targets their verified bytes by path. @throws {FormatError} {VersionError} for one that breaks a rule.
 */
export function parsePolicy(targets: ReadonlyMap<string, Uint8Array>, read: PolicyReaders): PolicyContent {
  const publishers = targets.get(publishersPath);
  const deny = targets.get(denyPath);
  const members = new Map<string, readonly MemberRule[]>();
  for (const [path, bytes] of targets) {
    const site = /^members\/([^/]+)\.json$/.exec(path)?.[1];
    if (site !== undefined)
      members.set(
        site,
        parseMembersFile(bytes).map((line) => memberRule(line, read)),
      );
  }
  const lines = publishers === undefined ? undefined : parsePublishersFile(publishers);
  return {
    publishers: (lines?.publishers ?? []).map((line) => publisherRule(line, read)),
    retired: (lines?.retired ?? []).map((line) => retiredPublisher(line, targets, read)),
    revoked: (lines?.revoked ?? []).map((line): RevokedPublisher => ({ ...line, keyid: keyOf(line.key, read).keyid })),
    members,
    denied: deny === undefined ? [] : parseDenyFile(deny),
  };
}

function publisherRule(
  { key, names, label }: PublishersFile["publishers"][number],
  read: PolicyReaders,
): PublisherRule {
  return { ...keyOf(key, read), names, label };
}

function retiredPublisher(
  line: PublishersFile["retired"][number],
  targets: ReadonlyMap<string, Uint8Array>,
  read: PolicyReaders,
): RetiredPublisher {
  const rule = publisherRule(line, read);
  const records = new Set<string>();
  for (let list = 0; list < line.lists; list++) {
    const bytes = targets.get(retiredPath(rule.keyid, list));
    if (bytes === undefined)
      throw new FormatError(`the policy lacks a list of records of the retired key ${rule.keyid}`);
    for (const digest of parseRetiredRecords(bytes)) records.add(digest);
  }
  return { ...rule, at: line.at, records };
}

function memberRule({ peer, labels, until }: MemberLine, read: PolicyReaders): MemberRule {
  return { peer, labels, untilMs: until === undefined ? undefined : read.timeMs(until) };
}

function keyOf(text: string, read: PolicyReaders): ReturnType<PolicyReaders["key"]> {
  try {
    return read.key(text);
  } catch (cause) {
    throw new FormatError("the policy has a publisher's key that is none", { cause });
  }
}

function parse(bytes: Uint8Array, what: string): CborMap {
  if (bytes.length > policyFileBytesMax) {
    throw new FormatError(`${what} have ${bytes.length} bytes, more than ${policyFileBytesMax}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(parseUtf8(bytes, what));
  } catch (cause) {
    throw new FormatError(`${what} are not JSON`, { cause });
  }
  if (!isMap(value)) throw new FormatError(`${what} are not an object`);
  checkShape(value, what);
  if (value.version !== 1) throw new VersionError(what, value.version);
  return value;
}

function isPublisherLine(value: unknown): value is PublishersFile["publishers"][number] {
  if (!isMap(value)) return false;
  const { key, names, label } = value;
  return isText(key) && isText(label) && isListOf(names, isPattern, patternsMax);
}

function isRetiredLine(value: unknown): value is PublishersFile["retired"][number] {
  if (!isPublisherLine(value)) return false;
  const { at, lists } = value as CborMap;
  return isTime(at) && Number.isInteger(lists) && (lists as number) >= 0 && (lists as number) <= listsMax;
}

function isRevokedLine(value: unknown): value is PublishersFile["revoked"][number] {
  return isMap(value) && isText(value.key) && isTime(value.at) && isText(value.reason, reasonMax);
}

function isMemberLine(value: unknown): value is MemberLine {
  if (!isMap(value)) return false;
  const { peer, labels, until } = value;
  return isPeerName(peer) && isListOf(labels, isLabel, labelsMax) && (until === undefined || isTime(until));
}

function isDenialLine(value: unknown): value is Omit<Denial, "payload"> & { readonly payload: string } {
  if (!isMap(value)) return false;
  const { payload, by, at, reason } = value;
  return isDigestText(payload) && isText(by) && isTime(at) && isText(reason, reasonMax);
}

function isPattern(value: unknown): value is string {
  return isText(value) && value !== "";
}

function isLabel(value: unknown): value is string {
  return isText(value);
}

function isDigestText(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

function isTime(value: unknown): value is string {
  return typeof value === "string" && isoTime.test(value);
}

const patternsMax = 100;
const labelsMax = 16;
/** A million records of one key. */
const listsMax = 64;
const reasonMax = 1000;
const isoTime = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?Z$/;
