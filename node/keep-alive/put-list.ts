import { randomBytes } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { UnreachableError } from "../../protocol/errors.ts";
import { keepListName } from "./origin-list-source.ts";

/** Writes a list into a folder origin: beside, durably, and then in the place of the one before. @throws {UnreachableError} */
export async function putKeepList(originPath: string, toolset: string, envelope: Uint8Array): Promise<void> {
  const path = join(originPath, "policy", keepListName(toolset));
  const beside = join(dirname(path), `.${randomBytes(12).toString("hex")}.tmp`);
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    const file = await open(beside, "wx", 0o644);
    try {
      await file.writeFile(envelope);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (cause) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw new UnreachableError(`${path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}
