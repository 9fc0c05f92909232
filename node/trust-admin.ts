import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NotFoundError, NotTrustedError } from "../protocol/errors.ts";
import type { NamedThing } from "../protocol/handle-text.ts";
import type { PayloadId } from "../protocol/hash.ts";
import type { MemberLine } from "../protocol/policy-files.ts";
import { decodeEnvelope, type SignedRecord, trustedRecord } from "../protocol/record.ts";
import { variantHash, variantText } from "../protocol/variant.ts";
import { openHashEngine } from "./hasher.ts";
import {
  generatePublisherKey,
  keyId,
  loadPublisherKey,
  type PublisherKey,
  parsePublicKey,
  verifySignature,
} from "./keys.ts";
import { FileLock } from "./origins/file-lock.ts";
import { folderError } from "./origins/folder-walk.ts";
import { recordsAtOrigins } from "./publisher-records.ts";
import { openPublishing, publishingOrigin } from "./publishing.ts";
import { RecordTrust } from "./record-trust.ts";
import type { Settings } from "./settings/schema.ts";
import { openAuthorState, readRoot } from "./trust/first-contact.ts";
import { KeyRing } from "./trust/key-ring.ts";
import { type AuthorParts, PolicyAuthor, type WrittenPolicy } from "./trust/policy-author.ts";
import * as changes from "./trust/policy-changes.ts";
import { factsOf } from "./trust/policy-floor.ts";
import { PolicyFolder } from "./trust/policy-folder.ts";
import { contentPath, metadataName, parseRole, timestampName } from "./trust/policy-names.ts";
import { firstRoot } from "./trust/role-files.ts";
import { rotateKeys } from "./trust/rotate-keys.ts";
import { fileBytes, rootOf, signAll } from "./trust/tuf.ts";

// What `p2pcache trust` and `p2pcache key` do with a policy: as the caller, and in the caller's process.

export interface TrustOptions {
  /** Private keys beside those of the key directory. */
  readonly keyFiles?: readonly string[];
  /** Milliseconds since 1970. */
  readonly nowMs?: number;
}

/** What is changed about a policy. */
export type TrustChange =
  | { readonly kind: "add-publisher"; readonly key: string; readonly names: readonly string[]; readonly label: string }
  /** `who`: a key's text, or the first digits of its key id. */
  | { readonly kind: "retire-publisher"; readonly who: string }
  | { readonly kind: "revoke-publisher"; readonly who: string; readonly reason: string }
  | { readonly kind: "add-member"; readonly site: string; readonly member: MemberLine }
  | { readonly kind: "remove-member"; readonly site: string; readonly peer: string }
  /** `keys`: texts of public keys. */
  | { readonly kind: "delegate"; readonly role: string; readonly keys: readonly string[]; readonly threshold: number }
  | { readonly kind: "deny"; readonly payload: PayloadId; readonly by: string; readonly reason: string }
  /** Takes a denial back. */
  | { readonly kind: "allow"; readonly payload: PayloadId }
  /** A toolset's keep-alive list, as it is to be; the next version, in force for a year, unless given. */
  | {
      readonly kind: "list";
      readonly toolset: string;
      readonly bytes: Uint8Array;
      readonly version?: number;
      readonly expiresMs?: number;
    }
  /** Signs anew what is past half of its life, takes in what others signed, and a new root where one is given. */
  | { readonly kind: "refresh"; readonly rootFile?: string };

/** How a policy begins. */
export interface TrustInit {
  /** Texts of the public keys of the root; one is made here where none are given. */
  readonly rootKeys: readonly string[];
  /** How many of them must sign. */
  readonly threshold: number;
  /** A root that enough of them have signed; without it, and with too few keys here, only `draftFile` is written. */
  readonly rootFile?: string;
  readonly draftFile?: string;
}

/** What came of the beginning of a policy, or of a new root. */
export interface BegunPolicy {
  /** Undefined while more signatures are needed. */
  readonly written: WrittenPolicy | undefined;
  /** Where the first root lies, by which machines check all else; undefined unless it was just written. */
  readonly root?: string;
  /** Where the root lies that has to be signed. */
  readonly draft: string | undefined;
  /** Keys that were made. */
  readonly made: readonly string[];
}

/** Where this machine keeps the private keys of policies. */
export function policyKeysPath({ node }: Pick<Settings, "node">): string {
  return join(node.state, "keys", "policy");
}

/** Begins the network's policy at the origin that releases go to. @throws what `PolicyAuthor.begin` and `write` throw. */
export async function beginPolicy(
  settings: Settings,
  init: TrustInit,
  options: TrustOptions = {},
): Promise<BegunPolicy> {
  const keysPath = policyKeysPath(settings);
  const made: string[] = [];
  const have = async (name: string): Promise<PublisherKey> => {
    const path = join(keysPath, `${name}.pem`);
    const ring = await KeyRing.open(keysPath);
    const known = ring.keys.find((each) => each.path === path);
    if (known !== undefined) return known.key;
    made.push(path);
    return await generatePublisherKey(path);
  };
  // The folder is one of our network, or becomes it.
  await (await openPublishing(settings)).repository.found();
  const given = init.rootKeys.map(parsePublicKey);
  const rootKeys = given.length === 0 && init.rootFile === undefined ? [(await have("root")).rawPublic] : given;
  const [targets, online] = [await have("targets"), await have("online")];
  await using lock = await takeTurn(settings, { begins: true });
  const parts = await authorParts(settings, options, lock.folder);
  const { threshold } = init;
  const root =
    init.rootFile === undefined
      ? firstRoot({ root: rootKeys, threshold, targets: targets.rawPublic, online: online.rawPublic }, parts.nowMs)
      : rootOf(await readRoot(init.rootFile));
  const role = root.signed.roles.root!;
  const own = parts.ring.of(role.keyIDs).map(({ key }) => key);
  if (init.rootFile === undefined) signAll(root, own);
  if (Object.keys(root.signatures).length < role.threshold) {
    const draft = init.draftFile ?? join(settings.node.state, "policy-root.draft.json");
    await writeNew(draft, fileBytes(root));
    return { written: undefined, draft, made };
  }
  const author = await PolicyAuthor.begin(parts, root);
  changes.beginContents(author, settings.trust.publishers);
  const written = await author.write();
  return { written, draft: undefined, made, root: join(parts.folder.path, metadataName("root", 1)) };
}

/** Changes the policy. @throws what `PolicyAuthor` throws. */
export async function changePolicy(
  settings: Settings,
  change: TrustChange,
  options: TrustOptions = {},
): Promise<WrittenPolicy> {
  await using lock = await takeTurn(settings);
  const parts = await authorParts(settings, options, lock.folder);
  const author = await PolicyAuthor.open(parts);
  const found = await apply(author, change, { settings, nowMs: parts.nowMs });
  const written = await author.write();
  return { ...written, warnings: [...written.warnings, ...found] };
}

/** Adds the signatures of the keys that are here to a root that is on its way. Answers how many are still missing. */
export async function signRoot(
  settings: Settings,
  file: string,
  options: TrustOptions = {},
): Promise<{ readonly signatures: number; readonly needed: number }> {
  const root = rootOf(await readRoot(file));
  const ring = await KeyRing.open(policyKeysPath(settings), options.keyFiles);
  const known = root.signed.roles.root!.keyIDs;
  // The keys of the root in force must sign the next one as well, and it may name them no more: their owners name them.
  signAll(
    root,
    ring.of(known).map(({ key }) => key),
  );
  for (const path of options.keyFiles ?? []) signAll(root, [await loadPublisherKey(path)]);
  await replace(file, fileBytes(root));
  const { keyIDs, threshold } = root.signed.roles.root!;
  return { signatures: keyIDs.filter((keyid) => keyid in root.signatures).length, needed: threshold };
}

/**
 * Makes a new key in one's place, wherever it signs. A root that needs other people's keys too is written as a draft.
 * @param name of its file, without `.pem`. @throws {UsageError} where there is none.
 */
export async function rotatePolicyKey(
  settings: Settings,
  name: string,
  options: TrustOptions = {},
): Promise<BegunPolicy> {
  await using lock = await takeTurn(settings);
  const parts = await authorParts(settings, options, lock.folder);
  const author = await PolicyAuthor.open(parts);
  const rotated = await rotateKeys(author, parts, { name, directory: policyKeysPath(settings) });
  if (rotated.draft === undefined) return { written: await author.write(), draft: undefined, made: [rotated.path] };
  const draft = join(settings.node.state, `policy-root.${rotated.draft.signed.version}.draft.json`);
  await writeNew(draft, fileBytes(rotated.draft));
  return { written: undefined, draft, made: [rotated.path] };
}

/** What the policy at the origin says of a toolset. */
export interface PolicyToolset {
  /** Its owners' raw keys, by key id. */
  readonly keys: ReadonlyMap<string, Uint8Array>;
  /** The newest version that anybody may have seen; 0 where there was none. */
  readonly version: number;
  /** The newest list that its owners have signed, also one that waits for `trust refresh`. */
  readonly list: { readonly version: number; readonly expires: string; readonly bytes: Uint8Array } | undefined;
  /** Whether machines see that list already. */
  readonly isInForce: boolean;
}

/**
 * Who may sign a toolset's list by the policy at the origin that releases go to; undefined where there is no policy, or it
 * delegates no such list. @throws {UsageError} NO_ROOT where this machine trusts no root; what `PolicyAuthor.open` throws.
 */
export async function policyToolset(
  settings: Settings,
  toolset: string,
  options: TrustOptions = {},
): Promise<PolicyToolset | undefined> {
  const folder = new PolicyFolder(publishingOrigin(settings).path);
  if ((await folder.read(timestampName)) === undefined) return undefined;
  const author = await PolicyAuthor.open(await authorParts(settings, options, folder));
  const role = `keepalive/${toolset}`;
  if (author.delegation(role) === undefined) return undefined;
  const bytes = author.content(contentPath(role));
  const signed = author.signedBy(role)?.signed;
  const list =
    signed === undefined || bytes === undefined
      ? undefined
      : { version: signed.version, expires: signed.expires, bytes };
  const isInForce = list !== undefined && author.base.delegated.get(role)?.signed.version === list.version;
  return { keys: author.keysOf(role), version: author.versionOf(role), list, isInForce };
}

/**
 * The payload that a handle means: by its id, or what its newest record at the origin names, if a publisher has signed it
 * whom the policy there lets release it: nothing else may have an admin sign a denial, or take one back.
 * @throws {NotFoundError}; {NotTrustedError} {FormatError}; what `PolicyAuthor.open` throws.
 */
export async function deniedPayload(
  settings: Settings,
  thing: NamedThing,
  options: TrustOptions = {},
): Promise<PayloadId> {
  if (thing.kind === "payload") return thing.payload;
  const { hash } = openHashEngine();
  const { repository } = await openPublishing(settings, { publishes: false });
  const variant = thing.kind === "variant" ? variantHash(thing.variant, hash) : thing.hash;
  const bytes = await repository.latestRecord(variant);
  if (bytes === undefined) throw new NotFoundError(`${repository.name} has no release of it`);
  const { base } = await PolicyAuthor.open(await authorParts(settings, options, await policyFolder(settings)));
  const trust = new RecordTrust(settings.trust, hash, Date.now);
  trust.follow({ sequence: 0, newestSignedMs: 0, since: "", files: base.files, facts: factsOf(base) });
  const record = signedRecord(() => trustedRecord(decodeEnvelope(bytes), trust.signers, verifySignature, hash));
  if (variantHash(record.variant, hash) !== variant) {
    throw new NotTrustedError(`a record of ${variantText(record.variant)} lies in its place`, { hint: namePayload });
  }
  return record.withdrawn ? record.supersedes : record.payload;
}

function signedRecord(read: () => SignedRecord): SignedRecord {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof NotTrustedError)) throw cause;
    throw new NotTrustedError(cause.message, { code: cause.code, cause, hint: namePayload });
  }
}

const namePayload = "nothing was signed; name the payload that is meant as payload:<hex>, once you know which it is";

/**
 * One admin after the other, on whatever machine: each builds upon what the one before has written.
 * @throws {BusyError} when others keep the lock; {NotFoundError} where there is no policy, unless one begins.
 */
async function takeTurn(
  settings: Settings,
  { begins = false }: { readonly begins?: boolean } = {},
): Promise<AsyncDisposable & { readonly folder: PolicyFolder }> {
  const folder = begins ? new PolicyFolder(publishingOrigin(settings).path) : await policyFolder(settings);
  if (begins) await folder.prepare();
  const lock = await FileLock.take(join(folder.path, ".lock")).catch((error: unknown) => {
    throw folderError(folder.path, error);
  });
  return { folder, [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose]() };
}

/** @throws {NotFoundError} where there is no policy. */
async function policyFolder(settings: Settings): Promise<PolicyFolder> {
  const folder = new PolicyFolder(publishingOrigin(settings).path);
  if ((await folder.read(timestampName)) !== undefined) return folder;
  throw new NotFoundError(`there is no policy in ${folder.path}`, {
    hint: "see that it is mounted, or begin one with `p2pcache trust init`",
  });
}

async function authorParts(
  settings: Settings,
  { keyFiles, nowMs = Date.now() }: TrustOptions,
  folder: PolicyFolder,
): Promise<AuthorParts> {
  return {
    folder,
    state: await openAuthorState({ statePath: settings.node.state, rootFile: settings.trust.rootFile, nowMs }),
    ring: await KeyRing.open(policyKeysPath(settings), keyFiles),
    nowMs,
  };
}

/** Answers what people should know of it. */
async function apply(
  author: PolicyAuthor,
  change: TrustChange,
  { settings, nowMs }: { readonly settings: Settings; readonly nowMs: number },
): Promise<readonly string[]> {
  if (change.kind !== "retire-publisher") {
    await applySimple(author, change, nowMs);
    return [];
  }
  const publisher = changes.publisherRule(author, change.who);
  const { records, unlisted } = await recordsAtOrigins(settings, publisher, openHashEngine().hash);
  changes.retirePublisher(author, keyId(publisher.key), records, nowMs);
  return unlisted.map(({ name, reason }) => {
    return `the records at ${name} were not listed (${reason}): those that lie nowhere else count no more`;
  });
}

async function applySimple(
  author: PolicyAuthor,
  change: Exclude<TrustChange, { readonly kind: "retire-publisher" }>,
  nowMs: number,
): Promise<void> {
  switch (change.kind) {
    case "add-publisher":
      return changes.addPublisher(author, change);
    case "revoke-publisher":
      return changes.revokePublisher(author, change.who, change.reason, nowMs);
    case "add-member":
      parseRole(`members/${change.site}`);
      return changes.addMember(author, change.site, change.member);
    case "remove-member":
      return changes.removeMember(author, change.site, change.peer);
    case "delegate":
      return author.delegate(parseRole(change.role), change.keys.map(parsePublicKey), change.threshold);
    case "deny":
      return changes.denyPayload(author, change, nowMs);
    case "allow":
      return changes.allowPayload(author, change.payload);
    case "list":
      return changes.putList(author, change);
    case "refresh":
      if (change.rootFile !== undefined) author.replaceRoot(rootOf(await readRoot(change.rootFile)));
      return author.renew();
  }
}

/** @throws {Error} EEXIST where something is there already. */
async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  await writeFile(path, bytes, { mode: 0o644, flag: "wx" });
}

async function replace(path: string, bytes: Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, bytes, { mode: 0o644 });
  await rename(`${path}.new`, path);
}
