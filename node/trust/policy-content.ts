import type { PolicyContent } from "../../protocol/policy.ts";
import { parsePolicy } from "../../protocol/policy-files.ts";
import { keyId, parsePublicKey } from "../keys.ts";

/** What a policy's verified targets say. @throws {FormatError} {VersionError} for one that breaks a rule. */
export function policyContent({ contents }: { readonly contents: ReadonlyMap<string, Uint8Array> }): PolicyContent {
  return parsePolicy(contents, {
    key: (text) => {
      const key = parsePublicKey(text);
      return { keyid: keyId(key), key };
    },
    timeMs: (text) => Date.parse(text),
  });
}
