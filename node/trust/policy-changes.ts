import { NotFoundError, NotTrustedError, UsageError } from "../../protocol/errors.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import { retiredRecordsPerFileMax } from "../../protocol/limits.ts";
import type { PublisherRule } from "../../protocol/policy.ts";
import {
  denyPath,
  encodePolicyFile,
  type MemberLine,
  membersPath,
  type PublishersFile,
  parseDenyFile,
  parseMembersFile,
  parsePublishersFile,
  publishersPath,
  retiredPath,
} from "../../protocol/policy-files.ts";
import { keyId, parsePublicKey } from "../keys.ts";
import type { PolicyAuthor } from "./policy-author.ts";
import { contentPath, parseRole } from "./policy-names.ts";

/** Who may release what. @throws {UsageError} for a key that was revoked. */
export function addPublisher(
  author: PolicyAuthor,
  { key, names, label }: { readonly key: string; readonly names: readonly string[]; readonly label: string },
): void {
  parsePublicKey(key);
  const file = publishersOf(author);
  if (file.revoked.some((line) => line.key === key)) {
    throw new UsageError("this key was revoked, and is never trusted again", {
      code: "KEY_REVOKED",
      hint: "make a new one",
    });
  }
  const publishers = [...file.publishers.filter((line) => line.key !== key), { key, names, label }];
  putPublishers(author, { ...file, publishers, retired: file.retired.filter((line) => line.key !== key) });
}

/**
 * A publisher releases nothing any more; what it has signed so far stays.
 * @param records digests of the bodies of the records that it has signed. @throws {NotFoundError}
 */
export function retirePublisher(author: PolicyAuthor, who: string, records: readonly string[], nowMs: number): void {
  const file = publishersOf(author);
  const line = file.publishers.find(({ key }) => isKey(key, who));
  if (line === undefined) throw new NotFoundError(`the policy has no publisher ${who}`);
  const keyid = keyIdOf(line.key);
  const lists: string[][] = [];
  for (let at = 0; at < records.length; at += retiredRecordsPerFileMax) {
    lists.push(records.slice(at, at + retiredRecordsPerFileMax));
  }
  const at = new Date(nowMs).toISOString();
  const next = {
    ...file,
    publishers: file.publishers.filter((each) => each !== line),
    retired: [...file.retired, { ...line, at, lists: lists.length }],
  };
  const files = lists.map((list, index) => [retiredPath(keyid, index), encodePolicyFile({ records: list })] as const);
  putPublishers(author, next, new Map(files));
}

/** Voids all that a key has ever signed. A key that the policy does not know may be revoked too, by its whole text. */
export function revokePublisher(author: PolicyAuthor, who: string, reason: string, nowMs: number): void {
  const file = publishersOf(author);
  const known = [...file.publishers, ...file.retired].find(({ key }) => isKey(key, who))?.key;
  const key = known ?? who;
  if (known === undefined) parsePublicKey(who);
  if (file.revoked.some((line) => line.key === key)) return;
  const isOther = (line: { readonly key: string }) => line.key !== key;
  putPublishers(author, {
    publishers: file.publishers.filter(isOther),
    retired: file.retired.filter(isOther),
    revoked: [...file.revoked, { key, at: new Date(nowMs).toISOString(), reason }],
  });
}

/** Lets a machine in, or changes what is said of it. */
export function addMember(author: PolicyAuthor, site: string, member: MemberLine): void {
  const role = `members/${site}`;
  const { keys, threshold } = author.ownKeys;
  if (author.delegation(role) === undefined) author.delegate(role, keys, threshold);
  const others = membersOf(author, site).filter(({ peer }) => peer !== member.peer);
  author.putContent(role, encodePolicyFile({ members: [...others, member] }));
}

/** @throws {NotFoundError} where it is no member of the site. */
export function removeMember(author: PolicyAuthor, site: string, peer: string): void {
  const members = membersOf(author, site);
  const others = members.filter((member) => member.peer !== peer);
  if (others.length === members.length) throw new NotFoundError(`${peer} is no member of ${site}`);
  author.putContent(`members/${site}`, encodePolicyFile({ members: others }));
}

/** Nobody may have a payload any more. */
export function denyPayload(
  author: PolicyAuthor,
  denial: { readonly payload: PayloadId; readonly by: string; readonly reason: string },
  nowMs: number,
): void {
  const bytes = author.content(denyPath);
  const denied = bytes === undefined ? [] : parseDenyFile(bytes);
  if (denied.some(({ payload }) => payload === denial.payload)) return;
  const at = new Date(nowMs).toISOString();
  author.putContent("deny", encodePolicyFile({ denied: [...denied, { ...denial, at }] }));
}

/** Takes a denial back: the payload may be had again. @throws {NotFoundError} where nobody denies it. */
export function allowPayload(author: PolicyAuthor, payload: PayloadId): void {
  const bytes = author.content(denyPath);
  const denied = bytes === undefined ? [] : parseDenyFile(bytes);
  const others = denied.filter((line) => line.payload !== payload);
  if (others.length === denied.length) {
    throw new NotFoundError(`the policy does not deny the payload ${payload}`, {
      hint: "`p2pcache trust show --json` lists what it denies; name another release's payload as payload:<hex>",
    });
  }
  author.putContent("deny", encodePolicyFile({ denied: others }));
}

/**
 * Gives a toolset its list. `version`: the next one unless given; `expiresMs`: until when it is in force.
 * @throws {NotTrustedError} LIST_OUTDATED for a version that goes back (P6).
 */
export function putList(
  author: PolicyAuthor,
  list: {
    readonly toolset: string;
    readonly bytes: Uint8Array;
    readonly version?: number;
    readonly expiresMs?: number;
  },
): void {
  const role = parseRole(`keepalive/${list.toolset}`);
  const before = author.versionOf(role);
  if (list.version !== undefined && list.version <= before) {
    throw new NotTrustedError(`the policy has version ${before} of the list of ${list.toolset} already`, {
      code: "LIST_OUTDATED",
      hint: `sign it as version ${before + 1}`,
    });
  }
  author.put(role, new Map([[contentPath(role), list.bytes]]), list);
}

/** What a policy begins with: these publishers may release all, and nothing is denied. */
export function beginContents(author: PolicyAuthor, publishers: readonly string[]): void {
  const { keys, threshold } = author.ownKeys;
  author.delegate("publishers", keys, threshold);
  author.delegate("deny", keys, threshold);
  const lines = publishers.map((key) => ({ key, names: ["*"], label: "" }));
  putPublishers(author, { publishers: lines, retired: [], revoked: [] });
  author.putContent("deny", encodePolicyFile({ denied: [] }));
}

/**
 * The raw key of a publisher, named by its key's text, or by 8 or more digits of its key id, and what it may release.
 * @throws {NotFoundError}
 */
export function publisherRule(author: PolicyAuthor, who: string): Pick<PublisherRule, "key" | "names"> {
  const line = publishersOf(author).publishers.find(({ key }) => isKey(key, who));
  if (line === undefined) throw new NotFoundError(`the policy has no publisher ${who}`);
  return { key: parsePublicKey(line.key), names: line.names };
}

function publishersOf(author: PolicyAuthor): PublishersFile {
  const bytes = author.content(publishersPath);
  return bytes === undefined ? { publishers: [], retired: [], revoked: [] } : parsePublishersFile(bytes);
}

function membersOf(author: PolicyAuthor, site: string): readonly MemberLine[] {
  const bytes = author.content(membersPath(site));
  return bytes === undefined ? [] : parseMembersFile(bytes);
}

function putPublishers(
  author: PolicyAuthor,
  file: PublishersFile,
  lists: ReadonlyMap<string, Uint8Array> = new Map(),
): void {
  const contents = new Map([[publishersPath, encodePolicyFile(file)]]);
  for (const { key, lists: count } of file.retired) {
    for (let list = 0; list < count; list++) {
      const path = retiredPath(keyIdOf(key), list);
      contents.set(path, lists.get(path) ?? author.content(path)!);
    }
  }
  author.put("publishers", contents);
}

function isKey(key: string, who: string): boolean {
  return key === who || (/^[0-9a-f]{8,64}$/.test(who) && keyIdOf(key).startsWith(who));
}

function keyIdOf(key: string): string {
  return keyId(parsePublicKey(key));
}
