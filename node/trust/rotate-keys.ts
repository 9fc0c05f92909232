import { join } from "node:path";
import type { Metadata, Root } from "@tufjs/models";
import { UsageError } from "../../protocol/errors.ts";
import { generatePublisherKey, keyId } from "../keys.ts";
import { KeyRing } from "./key-ring.ts";
import type { AuthorParts, PolicyAuthor } from "./policy-author.ts";
import { rotatedRoot } from "./role-files.ts";
import { signAll } from "./tuf.ts";

export interface RotatedKey {
  /** Where the new key lies. */
  readonly path: string;
  /** The new root, where others have to sign it too. */
  readonly draft: Metadata<Root> | undefined;
}

/** Makes a new key and puts it into an old one's place in an author's policy. @throws {UsageError} */
export async function rotateKeys(
  author: PolicyAuthor,
  { ring, nowMs }: AuthorParts,
  { name, directory }: { readonly name: string; readonly directory: string },
): Promise<RotatedKey> {
  // The newest of that name, where it was rotated before.
  const old = ring.keys.filter((each) => each.name.replace(/\.\d+$/, "") === name && author.uses(each.keyid)).at(-1);
  if (old === undefined) {
    throw new UsageError(`no key ${name} of this policy is here`, { hint: "`p2pcache key list` shows those that are" });
  }
  const count = ring.keys.filter((each) => each.name.replace(/\.\d+$/, "") === name).length;
  const path = join(directory, `${name}.${count + 1}.pem`);
  const fresh = await generatePublisherKey(path);
  author.useRing(await KeyRing.open(directory, ring.further));
  const { root } = author;
  const isInRoot = Object.values(root.signed.roles).some(({ keyIDs }) => keyIDs.includes(old.keyid));
  if (!isInRoot) {
    author.swapDelegated(old.keyid, fresh.rawPublic);
    return { path, draft: undefined };
  }
  const next = rotatedRoot(root, nowMs, old.keyid, fresh.rawPublic);
  const signers = new Set([...root.signed.roles.root!.keyIDs, ...next.signed.roles.root!.keyIDs]);
  const keys = [
    ...ring.of([...signers]).map(({ key }) => key),
    ...(signers.has(keyId(fresh.rawPublic)) ? [fresh] : []),
  ];
  signAll(next, keys);
  const signed = new Set(keys.map(({ rawPublic }) => keyId(rawPublic)));
  const isEnough = [root, next].every(({ signed: { roles } }) => {
    return roles.root!.keyIDs.filter((keyid) => signed.has(keyid)).length >= roles.root!.threshold;
  });
  if (!isEnough) return { path, draft: next };
  author.replaceRoot(next);
  return { path, draft: undefined };
}
