import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
  sign as signWith,
  verify as verifyWith,
} from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { UsageError } from "../protocol/errors.ts";

/** An Ed25519 key that signs release records. */
export interface PublisherKey {
  readonly privateKey: KeyObject;
  /** The raw public key, 32 bytes (RFC 8032, section 5.1.5). */
  readonly rawPublic: Uint8Array;
}

/**
 * Makes a publisher's key and writes it as PKCS#8 PEM with mode 0600; missing parent directories get 0700.
 * @throws {UsageError} `KEY_EXISTS` where anything stands at `path`: a key is never overwritten.
 */
export async function generatePublisherKey(path: string): Promise<PublisherKey> {
  const { privateKey } = generateKeyPairSync("ed25519");
  await writeSecret(path, privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  return publisherKey(privateKey);
}

/** @throws {UsageError} where there is no file, others may read it, or it is no Ed25519 key in PKCS#8 PEM. */
export async function loadPublisherKey(path: string): Promise<PublisherKey> {
  const pem = await readSecret(path, "publisher key", "p2pcache key gen");
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey({ key: pem, format: "pem", type: "pkcs8" });
  } catch (cause) {
    throw notAKey(path, "an unencrypted private key in PKCS#8 PEM", cause);
  }
  if (privateKey.asymmetricKeyType !== "ed25519") throw notAKey(path, "an Ed25519 key");
  return publisherKey(privateKey);
}

/** `ed25519:<base64 of the raw 32 bytes>`, as `trust.publishers` has it. */
export function publicKeyText(key: PublisherKey | Uint8Array): string {
  return `${publicKeyPrefix}${toBase64(key instanceof Uint8Array ? key : key.rawPublic)}`;
}

/** The raw 32 bytes. @throws {UsageError} unless the text is what `publicKeyText` writes. */
export function parsePublicKey(text: string): Uint8Array {
  const raw = readTagged(text, publicKeyPrefix);
  if (raw !== undefined) return raw;
  throw new UsageError(`not a public key: ${JSON.stringify(text.slice(0, 80))}`, {
    hint: `write ${publicKeyPrefix}<base64 of the raw 32 bytes>`,
  });
}

/** Names a public key in signatures: the SHA-256 of its raw bytes, 64 lower-case hex digits. */
export function keyId(rawPublic: Uint8Array): string {
  return createHash("sha256").update(rawPublic).digest("hex");
}

/** An Ed25519 signature, 64 bytes. */
export function sign(key: PublisherKey, message: Uint8Array): Uint8Array {
  return new Uint8Array(signWith(null, message, key.privateKey));
}

/** Whether the signature is that key's over that message; whatever the bytes, the answer is yes or no. */
export function verifySignature(rawPublic: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (rawPublic.length !== rawKeyBytes || signature.length !== signatureBytes) return false;
  try {
    const x = Buffer.from(rawPublic).toString("base64url");
    const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
    return verifyWith(null, message, publicKey, signature);
  } catch {
    return false;
  }
}

/**
 * Makes a network's shared key of 32 random bytes and writes it as one line, `p2pcache-network-key:<base64>`, mode 0600.
 * @throws {UsageError} `KEY_EXISTS` where anything stands at `path`.
 */
export async function generateNetworkKey(path: string): Promise<Uint8Array> {
  const key = new Uint8Array(randomBytes(rawKeyBytes));
  await writeSecret(path, `${networkKeyPrefix}${toBase64(key)}\n`);
  return key;
}

/** The 32 bytes. @throws {UsageError} where there is no file, others may read it, or it holds no network key. */
export async function loadNetworkKey(path: string): Promise<Uint8Array> {
  const text = await readSecret(path, "network key", "p2pcache key network");
  const key = readTagged(text.trim(), networkKeyPrefix);
  if (key === undefined) throw notAKey(path, `one line \`${networkKeyPrefix}<base64 of 32 bytes>\``);
  return key;
}

/**
 * What both sides mix into noise's handshake, so that a member of another network fails in it (DESIGN section 6).
 * 32 bytes of HKDF-SHA256 (RFC 5869) with a key; without one, a text that only keeps networks apart.
 */
export function networkPrologue(key: Uint8Array | undefined, networkName: string): Uint8Array {
  if (key === undefined) return new TextEncoder().encode(`p2pcache open ${networkName}`);
  return new Uint8Array(hkdfSync("sha256", key, networkName, "p2pcache noise prologue 1", prologueBytes));
}

/**
 * Why a key file must not be used, or `undefined` where it is fit: it exists, is a file, and only its owner reads it.
 * The contents are not looked at.
 */
export async function privateFileFault(path: string, what: string, makeWith: string): Promise<UsageError | undefined> {
  try {
    await using file = await openSecret(path);
    await checkSecret(file, path, what);
    return undefined;
  } catch (cause) {
    return secretFault(path, what, makeWith, cause);
  }
}

const publicKeyPrefix = "ed25519:";
const networkKeyPrefix = "p2pcache-network-key:";
const rawKeyBytes = 32;
/** RFC 8032, section 5.1.6. */
const signatureBytes = 64;
const prologueBytes = 32;
/** A PKCS#8 PEM of Ed25519 has 119 bytes; room for comments around it. */
const secretFileBytesMax = 16 * 1024;

function publisherKey(privateKey: KeyObject): PublisherKey {
  const { x } = createPublicKey(privateKey).export({ format: "jwk" });
  return { privateKey, rawPublic: new Uint8Array(Buffer.from(x!, "base64url")) };
}

async function writeSecret(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await openNew(path);
  try {
    await file.writeFile(text);
    await file.sync();
  } catch (error) {
    // Half a key would stand in the way of the next attempt.
    await unlink(path);
    throw error;
  } finally {
    await file.close();
  }
}

async function openNew(path: string): Promise<FileHandle> {
  try {
    return await open(path, "wx", 0o600);
  } catch (cause) {
    if (codeOf(cause) !== "EEXIST") throw cause;
    throw new UsageError(`${path} exists already, and a key is never overwritten`, {
      code: "KEY_EXISTS",
      hint: "name another file, or move the old key away first",
      cause,
    });
  }
}

/** A file that only its owner may use. @throws {UsageError} that names the file and says how to make one. */
export async function readSecret(path: string, what: string, makeWith: string): Promise<string> {
  try {
    await using file = await openSecret(path);
    await checkSecret(file, path, what);
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(secretFileBytesMax) });
    return buffer.toString("utf8", 0, bytesRead);
  } catch (cause) {
    throw secretFault(path, what, makeWith, cause);
  }
}

/** Without waiting, so that a pipe at `path` cannot hang us. */
function openSecret(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_NONBLOCK);
}

/** Asks the open file, not the path, so that nobody can swap it in between. */
async function checkSecret(file: FileHandle, path: string, what: string): Promise<void> {
  const { mode, size } = await file.stat();
  if ((mode & constants.S_IFMT) !== constants.S_IFREG)
    throw new UsageError(`${path} is not a file, so it is no ${what}`);
  if (size > secretFileBytesMax) throw new UsageError(`${path} is too large to be a ${what}: ${size} bytes`);
  if ((mode & 0o077) === 0) return;
  const octal = (mode & 0o777).toString(8).padStart(4, "0");
  throw new UsageError(`${path} may be used by others (mode ${octal}), so it is refused as a ${what}`, {
    code: "KEY_EXPOSED",
    hint: `chmod 600 ${path}, and make a new key if somebody may have read this one`,
  });
}

function secretFault(path: string, what: string, makeWith: string, cause: unknown): UsageError {
  if (cause instanceof UsageError) return cause;
  if (codeOf(cause) === "ENOENT") {
    return new UsageError(`there is no ${what} at ${path}`, { hint: `make one with \`${makeWith}\``, cause });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new UsageError(`the ${what} ${path} cannot be read: ${reason}`, { cause });
}

function notAKey(path: string, expected: string, cause?: unknown): UsageError {
  return new UsageError(`${path} does not hold ${expected}`, { cause });
}

/** The 32 bytes behind a prefix, in base64 as we write it ourselves; `undefined` for any other text. */
function readTagged(text: string, prefix: string): Uint8Array | undefined {
  if (!text.startsWith(prefix)) return undefined;
  const bytes = new Uint8Array(Buffer.from(text.slice(prefix.length), "base64"));
  return bytes.length === rawKeyBytes && prefix + toBase64(bytes) === text ? bytes : undefined;
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
