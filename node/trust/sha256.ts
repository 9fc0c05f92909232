import { createHash } from "node:crypto";

/** 64 hex digits: how TUF names the content of files. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
