import { keyId, type PublisherKey, sign } from "../../node/keys.ts";
import { encodeKeepList, keepListForm, parseKeepList, type SignedKeepList } from "../../protocol/keep-alive.ts";
import { encodeEnvelope, signedBytes } from "../../protocol/record.ts";

/** A list as if somebody had signed it; `keep` as in a TOML file, or just the packages. */
export function signedList(
  toolset: string,
  version: number,
  keep: readonly (string | { readonly package: string; readonly prefetch?: boolean })[],
  more: { readonly scope?: object; readonly expires?: string } = {},
): SignedKeepList {
  const { scope, expires = "2027-01-01T00:00:00Z" } = more;
  const lines = keep.map((line) => (typeof line === "string" ? { package: line } : line));
  const list = parseKeepList({ toolset, ...(scope === undefined ? {} : { scope }), keep: lines });
  return { ...list, version, signer: "pipeline", signedAt: "2026-11-01T08:00:00Z", expires };
}

/** As it lies at an origin, signed by its toolset's owner. */
export function sealedList(owner: PublisherKey, list: SignedKeepList): Uint8Array {
  const body = encodeKeepList(list);
  const sig = sign(owner, signedBytes(body, keepListForm));
  return encodeEnvelope({ body, signatures: [{ keyid: keyId(owner.rawPublic), sig }] }, keepListForm);
}
