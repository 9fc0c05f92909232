import { X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { UsageError } from "../protocol/errors.ts";
import { readSecret } from "./keys.ts";

/**
 * The `Authorization` header that a credentials file stands for: one line, `basic user:password` or `bearer TOKEN`.
 * @throws {UsageError} where there is no file, others may read it, or it is written otherwise; what is in it is never
 * shown.
 */
export async function readCredentials(path: string): Promise<string> {
  const make = `(umask 077; echo 'bearer TOKEN' > ${path})`;
  const text = (await readSecret(path, "credentials file", make)).trim();
  const [, kind, secret] = /^(basic|bearer)[ \t]+([^\r\n\0]+)$/i.exec(text) ?? [];
  if (kind?.toLowerCase() === "basic" && secret!.includes(":")) return basicCredentials(secret!);
  // RFC 6750, section 2.1: the characters of a token.
  if (kind?.toLowerCase() === "bearer" && /^[A-Za-z0-9._~+/-]+=*$/.test(secret!)) return `Bearer ${secret}`;
  throw new UsageError(`${path} is not a credentials file`, {
    hint: "write one line: basic user:password, or bearer TOKEN",
  });
}

/** RFC 7617: `user:password` in UTF-8. */
export function basicCredentials(userAndPassword: string): string {
  return `Basic ${Buffer.from(userAndPassword).toString("base64")}`;
}

/** Changes whenever the file may have; undefined while there is none. */
export async function fileVersion(path: string): Promise<string | undefined> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join();
  } catch {
    return undefined;
  }
}

/** The certificates of an authority, PEM. @throws {UsageError} where there is no file, or no certificate in it. */
export async function readAuthorities(path: string): Promise<string> {
  let pem: string;
  try {
    pem = await readFile(path, "utf8");
  } catch (cause) {
    throw new UsageError(`the certificates of ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const found = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  try {
    for (const one of found) new X509Certificate(one);
    if (found.length > 0) return found.join("\n");
  } catch {
    // One that cannot be read would be passed over without a word.
  }
  throw new UsageError(`${path} holds no certificates that can be read`, { hint: "write them as PEM" });
}
