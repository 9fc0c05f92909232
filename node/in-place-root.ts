import { realpath } from "node:fs/promises";
import { relative } from "node:path";
import { UnusableError, UsageError } from "../protocol/errors.ts";
import { type Variant, variantText } from "../protocol/variant.ts";
import type { Settings } from "./settings/schema.ts";

/**
 * Where a tree lies under the mount of its variant's repository, links resolved: every machine with that mount finds it
 * there, wherever it has it.
 * @throws {UsageError} when the repository is not configured, or the tree lies elsewhere; {UnusableError} when either
 * cannot be looked at.
 */
export async function findInPlaceRoot(
  { repositories }: Pick<Settings, "repositories">,
  variant: Variant,
  treePath: string,
): Promise<string> {
  const what = `${variantText(variant)} cannot be published in place`;
  const mount = repositories.get(variant.repository);
  if (mount === undefined) {
    throw new UsageError(`${what}: the repository ${variant.repository} is not configured`, {
      code: "REPOSITORY_NOT_CONFIGURED",
      hint: `set repositories.${variant.repository} to where this machine mounts it`,
    });
  }
  const [base, tree] = await Promise.all([realPath(mount, what), realPath(treePath, what)]);
  const root = relative(base, tree);
  if (root !== "" && root !== ".." && !root.startsWith("../")) return root;
  throw new UsageError(`${what}: ${treePath} does not lie under ${mount}, where its repository is`, {
    code: "NOT_IN_REPOSITORY",
    hint: "machines read it under their own mount of the repository; publish without --in-place, or from there",
    details: { tree, repository: base },
  });
}

async function realPath(path: string, what: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    throw new UnusableError(`${what}: ${path} cannot be looked at: ${(cause as Error).message}`, { cause });
  }
}
