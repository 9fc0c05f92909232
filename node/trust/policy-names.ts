import { UsageError } from "../../protocol/errors.ts";
import { denyPath, membersPath, publishersPath } from "../../protocol/policy-files.ts";

// How the files of a policy are called. Nothing of TUF's libraries is loaded for it.

/** Where a policy lies in a repository (DESIGN section 4). */
export const policyDirectory = "policy";
export const timestampName = "timestamp.json";

/** A role's metadata: `timestamp.json`, else with its version, as `3.members.lyon.json`. */
export function metadataName(role: string, version: number): string {
  return role === "timestamp" ? timestampName : `${version}.${role.replace("/", ".")}.json`;
}

/** A target, named by its content too: `targets/members/<sha256>.lyon.json`. */
export function targetName(path: string, sha256: string): string {
  const slash = path.lastIndexOf("/") + 1;
  return `targets/${path.slice(0, slash)}${sha256}.${path.slice(slash)}`;
}

/** Whether a text can name a file of a policy: nothing that leads elsewhere. */
export function isPolicyName(name: string): boolean {
  return policyName.test(name);
}

/** A role that is delegated to. @throws {UsageError} for any other text. */
export function parseRole(text: string): string {
  if (/^(publishers|deny|(members|keepalive)\/[A-Za-z0-9][A-Za-z0-9._-]{0,62})$/.test(text)) return text;
  throw new UsageError(`the policy delegates no role ${JSON.stringify(text.slice(0, 80))}`, {
    hint: "write publishers, deny, members/<site> or keepalive/<toolset>",
  });
}

/** The target of a role that holds its content. */
export function contentPath(role: string): string {
  if (role === "publishers") return publishersPath;
  if (role === "deny") return denyPath;
  const [kind, name] = role.split("/") as [string, string];
  return kind === "members" ? membersPath(name) : `${kind}/${name}.json`;
}

/** All targets that a role may sign, as TUF writes patterns. */
export function pathPatterns(role: string): string[] {
  return role === "publishers" ? [publishersPath, "publishers/*.json"] : [contentPath(role)];
}

const policyName = /^(?:targets\/(?:[a-z]+\/)?)?[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.json$/;
