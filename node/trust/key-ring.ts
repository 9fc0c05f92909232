import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { UsageError } from "../../protocol/errors.ts";
import { keyId, loadPublisherKey, type PublisherKey } from "../keys.ts";

/** A private key on this machine. */
export interface RingKey {
  readonly keyid: string;
  /** Its file's name without the extension: `root`, `targets`, `online`, or what its owner called it. */
  readonly name: string;
  readonly path: string;
  readonly key: PublisherKey;
}

/** The private keys that somebody has at hand to sign a policy with. */
export class KeyRing {
  readonly keys: readonly RingKey[];
  /** The files beside the directory's. */
  readonly further: readonly string[];

  private constructor(keys: readonly RingKey[], further: readonly string[]) {
    this.keys = keys;
    this.further = further;
  }

  /** All keys of a directory, and further files. @throws {UsageError} for a file that is no key, or that others may read. */
  static async open(directory: string, further: readonly string[] = []): Promise<KeyRing> {
    const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    const paths = names.filter((name) => name.endsWith(".pem")).map((name) => join(directory, name));
    const keys: RingKey[] = [];
    for (const path of [...paths.sort(), ...further]) {
      const key = await loadPublisherKey(path);
      keys.push({ keyid: keyId(key.rawPublic), name: basename(path, ".pem"), path, key });
    }
    return new KeyRing(keys, further);
  }

  /** Those of the keys that a role takes which are here. */
  of(keyids: readonly string[]): RingKey[] {
    const found = keyids.map((keyid) => this.keys.find((each) => each.keyid === keyid));
    return found.filter((each) => each !== undefined);
  }

  /** @throws {UsageError} where fewer are here than the role needs. */
  enoughFor(
    role: string,
    { keyIDs, threshold }: { readonly keyIDs: readonly string[]; readonly threshold: number },
  ): PublisherKey[] {
    const found = this.of(keyIDs);
    if (found.length >= threshold) return found.slice(0, threshold).map(({ key }) => key);
    const names = keyIDs.map((keyid) => keyid.slice(0, 16)).join(", ");
    throw new UsageError(`${role} takes ${threshold} of the keys ${names}, and ${found.length} of them are here`, {
      code: "KEY_MISSING",
      hint: "name a key's file with --with FILE",
    });
  }
}
