import { parseKeepList, type SignedKeepList } from "../../protocol/keep-alive.ts";

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
