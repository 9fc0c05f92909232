import { Buffer } from "node:buffer";
import { createHmac, generateKeyPairSync } from "node:crypto";
import { chmod, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  generateNetworkKey,
  generatePublisherKey,
  keyId,
  loadNetworkKey,
  loadPublisherKey,
  networkPrologue,
  parsePublicKey,
  privateFileFault,
  publicKeyText,
  sign,
  verifySignature,
} from "../../node/keys.ts";
import { UsageError } from "../../protocol/errors.ts";

const test = suite<{ directory: string }>("keys");

test.before.each(async (context) => {
  context.directory = await mkdtemp(join(tmpdir(), "p2pcache-keys-"));
});
test.after.each(async (context) => {
  await rm(context.directory, { recursive: true, force: true });
});

/** Awaits a rejection with a usage error. */
async function refused(promise: Promise<unknown>): Promise<UsageError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.instance(error, UsageError);
  assert.is((error as UsageError).exit, 2);
  return error as UsageError;
}

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

test("a publisher's key is read back as it was made", async ({ directory }) => {
  const path = join(directory, "publisher.pem");
  const made = await generatePublisherKey(path);
  const loaded = await loadPublisherKey(path);
  assert.equal(loaded.rawPublic, made.rawPublic);
  assert.is(loaded.rawPublic.length, 32);
  const message = Buffer.from("a release");
  assert.ok(verifySignature(made.rawPublic, message, sign(loaded, message)));
  assert.match(await readFile(path, "utf8"), /^-----BEGIN PRIVATE KEY-----\n/);
});

test("key files are for their owner alone, and so are the directories made for them", async ({ directory }) => {
  const umask = process.umask(0);
  try {
    await generatePublisherKey(join(directory, "a", "b", "publisher.pem"));
    await generateNetworkKey(join(directory, "network.key"));
  } finally {
    process.umask(umask);
  }
  assert.is(await modeOf(join(directory, "a")), 0o700);
  assert.is(await modeOf(join(directory, "a", "b")), 0o700);
  assert.is(await modeOf(join(directory, "a", "b", "publisher.pem")), 0o600);
  assert.is(await modeOf(join(directory, "network.key")), 0o600);
});

test("a key is never overwritten, nor written through a link", async ({ directory }) => {
  const path = join(directory, "key");
  await writeFile(path, "precious");
  assert.is((await refused(generatePublisherKey(path))).code, "KEY_EXISTS");
  assert.is((await refused(generateNetworkKey(path))).code, "KEY_EXISTS");
  assert.is(await readFile(path, "utf8"), "precious");
  await symlink(join(directory, "elsewhere"), join(directory, "link"));
  assert.is((await refused(generatePublisherKey(join(directory, "link")))).code, "KEY_EXISTS");
});

test("a key that others may read is refused with what to do", async ({ directory }) => {
  const publisher = join(directory, "publisher.pem");
  const network = join(directory, "network.key");
  await generatePublisherKey(publisher);
  await generateNetworkKey(network);
  for (const mode of [0o640, 0o604, 0o644, 0o660]) {
    for (const [path, load] of [
      [publisher, loadPublisherKey],
      [network, loadNetworkKey],
    ] as const) {
      await chmod(path, mode);
      const error = await refused(load(path));
      assert.is(error.code, "KEY_EXPOSED");
      assert.ok(error.message.includes(path));
      assert.ok(error.hint?.startsWith(`chmod 600 ${path}`));
      assert.is((await privateFileFault(path, "key", "x"))?.code, "KEY_EXPOSED");
    }
  }
  await chmod(publisher, 0o400);
  assert.ok(await loadPublisherKey(publisher));
});

test("a missing key is refused with the command that makes one", async ({ directory }) => {
  const path = join(directory, "none");
  assert.match((await refused(loadPublisherKey(path))).hint!, "p2pcache key gen");
  assert.match((await refused(loadNetworkKey(path))).hint!, "p2pcache key network");
});

test("what is no key of the right kind is refused by name", async ({ directory }) => {
  const path = join(directory, "key");
  const put = (text: string | Buffer) => writeFile(path, text, { mode: 0o600 });
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  for (const text of ["", "hello", rsa.export({ type: "pkcs8", format: "pem" }).toString(), Buffer.alloc(100_000)]) {
    await put(text);
    assert.ok((await refused(loadPublisherKey(path))).message.includes(path));
    assert.ok((await refused(loadNetworkKey(path))).message.includes(path));
  }
  for (const text of ["AAAA", `${"A".repeat(43)}=\nmore`, `${"A".repeat(42)}B=`]) {
    await put(`p2pcache-network-key:${text}\n`);
    await refused(loadNetworkKey(path));
  }
  await refused(loadPublisherKey(directory));
});

test("a network key is 32 random bytes on one line", async ({ directory }) => {
  const key = await generateNetworkKey(join(directory, "one"));
  assert.is(key.length, 32);
  assert.equal(await loadNetworkKey(join(directory, "one")), key);
  assert.match(await readFile(join(directory, "one"), "utf8"), /^p2pcache-network-key:[A-Za-z0-9+/]{43}=\n$/);
  assert.not.equal(await generateNetworkKey(join(directory, "two")), key);
});

test("a public key's text is read back, and no other text is", () => {
  const raw = new Uint8Array(32).fill(7);
  const text = publicKeyText(raw);
  assert.is(text, `ed25519:${Buffer.from(raw).toString("base64")}`);
  assert.equal(parsePublicKey(text), raw);
  for (const bad of ["", "ed25519:", text.slice(8), `${text} `, text.replace("=", ""), `ed25519:${"A".repeat(42)}B=`]) {
    assert.throws(
      () => parsePublicKey(bad),
      (error: unknown) => error instanceof UsageError,
      bad,
    );
  }
});

test("a key's id is the SHA-256 of its raw bytes", () => {
  // sha256sum of 32 zero bytes.
  assert.is(keyId(new Uint8Array(32)), "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925");
});

test("signatures follow RFC 8032, section 7.1, test 3", () => {
  const hex = (text: string) => Buffer.from(text, "hex");
  const publicKey = hex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
  const signature = hex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  );
  assert.ok(verifySignature(publicKey, hex("af82"), signature));
  assert.not.ok(verifySignature(publicKey, hex("af83"), signature));
});

test("whatever the bytes, checking a signature answers no and never throws", () => {
  const bytes = () => fc.uint8Array({ maxLength: 70 });
  const exactly = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  fc.assert(
    fc.property(bytes(), bytes(), bytes(), (key, message, signature) => !verifySignature(key, message, signature)),
  );
  // A random point may be of small order, for which forgeries exist, but never by chance: 8 of 2^255.
  fc.assert(
    fc.property(
      exactly(32),
      bytes(),
      exactly(64),
      (key, message, signature) => typeof verifySignature(key, message, signature) === "boolean",
    ),
  );
});

test("the prologue differs by key and by network, and without a key it is the network's name", () => {
  const key = new Uint8Array(32).fill(1);
  const prologue = networkPrologue(key, "studio");
  assert.is(prologue.length, 32);
  assert.equal(networkPrologue(key, "studio"), prologue);
  assert.not.equal(networkPrologue(key, "other"), prologue);
  assert.not.equal(networkPrologue(new Uint8Array(32), "studio"), prologue);
  // RFC 5869, section 2, by hand: one block of the expansion is 32 bytes.
  const extracted = createHmac("sha256", "studio").update(key).digest();
  const expanded = createHmac("sha256", extracted).update("p2pcache noise prologue 1\x01").digest();
  assert.ok(expanded.equals(prologue));
  assert.is(Buffer.from(networkPrologue(undefined, "studio")).toString(), "p2pcache open studio");
});

test.run();
