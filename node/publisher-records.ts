import { bytesToHex, type Hasher } from "../protocol/hash.ts";
import { decodeEnvelope, signedBytes } from "../protocol/record.ts";
import { keyId, verifySignature } from "./keys.ts";
import { readRevisions } from "./origins/folder-records.ts";
import { walkVariants } from "./origins/folder-walk.ts";

/**
 * What a publisher has signed so far at an origin, every revision: digests of the records' bodies, in order.
 * @throws {FormatError} where a record cannot be read: one that is missed would be void; {UnreachableError}.
 */
export async function recordsSignedBy(originPath: string, rawKey: Uint8Array, hasher: Hasher): Promise<string[]> {
  const keyid = keyId(rawKey);
  const digests = new Set<string>();
  for await (const variant of walkVariants(originPath)) {
    for (const { bytes } of await readRevisions(originPath, variant)) {
      const { body, signatures } = decodeEnvelope(bytes);
      const isTheirs = signatures.some((each) => {
        return each.keyid === keyid && verifySignature(rawKey, signedBytes(body), each.sig);
      });
      if (isTheirs) digests.add(bytesToHex(hasher(body)));
    }
  }
  return [...digests].sort();
}
