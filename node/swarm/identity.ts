import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { UnusableError } from "../../protocol/errors.ts";

/**
 * The key by which other members know this node; made at its first start, readable by its owner alone.
 * @throws {UnusableError} when the file cannot be read or written, or is not a key.
 */
export async function openNodeKey(path: string): Promise<PrivateKey> {
  try {
    return privateKeyFromProtobuf(await readFile(path));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") {
      throw new UnusableError(`the node's key ${path} cannot be read`, {
        cause,
        hint: "move it away to get a new one",
      });
    }
  }
  const key = await generateKeyPair("Ed25519");
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // Beside, then moved: a crash leaves no half of a key, which would keep the node from ever starting again.
    const beside = `${path}.new`;
    await rm(beside, { force: true });
    const file = await open(beside, "wx", 0o600);
    try {
      await file.writeFile(privateKeyToProtobuf(key));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (cause) {
    throw new UnusableError(`the node's key ${path} cannot be written`, { cause });
  }
  return key;
}

/** The peer id that belongs to the key in a state directory. @throws {UnusableError} as `openNodeKey` does. */
export async function openNodeId(statePath: string): Promise<string> {
  return peerIdFromPrivateKey(await openNodeKey(join(statePath, "node.key"))).toString();
}
