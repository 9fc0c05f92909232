import { join } from "node:path";
import type { ApiVariant } from "../node/index.ts";

/**
 * The variables that Rez sets for a package (resolved_context.py, "package variables"), for variants that lie here:
 * `REZ_MAYA_ROOT`, `REZ_MAYA_BASE`, `REZ_MAYA_VERSION` and the version's first three tokens.
 * @param repositories where each is mounted, by id; nothing there is looked at.
 */
export function packageVariables(
  variants: readonly ApiVariant[],
  repositories: ReadonlyMap<string, string>,
): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const { handle, path = "" } of variants) {
    const [, repository = "", name = "", version = ""] = handleForm.exec(handle) ?? [];
    const prefix = `REZ_${name.toUpperCase().replaceAll(".", "_")}`;
    const [major = "", minor = "", patch = ""] = version.match(/[0-9a-zA-Z_]+/g) ?? [];
    const mount = repositories.get(repository);
    Object.assign(variables, {
      [`${prefix}_ROOT`]: path,
      [`${prefix}_VERSION`]: version,
      [`${prefix}_MAJOR_VERSION`]: major,
      [`${prefix}_MINOR_VERSION`]: minor,
      [`${prefix}_PATCH_VERSION`]: patch,
      ...(mount === undefined ? {} : { [`${prefix}_BASE`]: join(mount, name, version) }),
    });
  }
  return variables;
}

/** As `variantText` writes it; names have no dash. */
const handleForm = /^([^:]+):([^-[]+)(?:-(.+?))?(?:\[\d+\])?$/;
