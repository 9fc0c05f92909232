import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, link, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BusyError, UnusableError } from "../../protocol/errors.ts";
import { policyFileBytesMax } from "../../protocol/limits.ts";
import { isPolicyName, policyDirectory } from "./policy-names.ts";
import { sha256 } from "./sha256.ts";

/** A policy in an origin's folder, as its admins write it. */
export class PolicyFolder {
  readonly path: string;
  /** Directories with new names in them, which are not yet durable. */
  readonly #unsynced = new Set<string>();

  /** @param originPath the origin's folder. */
  constructor(originPath: string) {
    this.path = join(originPath, policyDirectory);
  }

  /** Makes the directory. @throws {UnusableError} where the origin's folder is not there, or may not be written. */
  async prepare(): Promise<void> {
    try {
      await this.#makeDirectory(this.path);
    } catch (error) {
      throw unusable(this.path, error);
    }
  }

  /** @throws {UnusableError} where it cannot be read. */
  async read(name: string): Promise<Uint8Array | undefined> {
    const path = this.#place(name);
    try {
      await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const { size } = await file.stat();
      if (size > policyFileBytesMax)
        throw new UnusableError(`${path} has ${size} bytes, more than ${policyFileBytesMax}`);
      return new Uint8Array(await file.readFile());
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw unusable(path, error);
    }
  }

  /** The names of all that lies there, but for targets. @throws {UnusableError} where it cannot be read. */
  async names(): Promise<string[]> {
    try {
      return await readdir(this.path);
    } catch (error) {
      throw unusable(this.path, error);
    }
  }

  /**
   * Writes a file under a name that is never written again. One that is there with the same bytes is left alone.
   * @throws {BusyError} where another admin has written something else under it.
   */
  async create(name: string, bytes: Uint8Array): Promise<void> {
    const path = this.#place(name);
    await this.#write(path, bytes, async (from) => {
      try {
        await link(from, path);
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw error;
        const there = await this.read(name);
        if (there !== undefined && sha256(there) === sha256(bytes)) return;
        throw new BusyError(`${path} is there already: another admin has changed the policy meanwhile`, {
          hint: "try again",
        });
      } finally {
        await rm(from, { force: true });
      }
    });
  }

  /** Puts a file into the place of another one: of the timestamp only, once all that it leads to is durable. */
  async replace(name: string, bytes: Uint8Array): Promise<void> {
    await this.sync();
    const path = this.#place(name);
    await this.#write(path, bytes, (from) => rename(from, path));
    await this.sync();
  }

  /** Makes all names that were written durable. */
  async sync(): Promise<void> {
    for (const directory of [...this.#unsynced]) {
      await using opened = await open(directory, constants.O_RDONLY);
      await opened.sync();
      this.#unsynced.delete(directory);
    }
  }

  #place(name: string): string {
    if (!isPolicyName(name)) throw new Error(`broken promise: ${name} is a file of a policy`);
    return join(this.path, name);
  }

  async #write(path: string, bytes: Uint8Array, place: (from: string) => Promise<void>): Promise<void> {
    const beside = join(dirname(path), `.${randomBytes(12).toString("hex")}.tmp`);
    try {
      await this.#makeDirectory(dirname(path));
      try {
        await writeDurably(beside, bytes);
        await place(beside);
      } catch (error) {
        await rm(beside, { force: true }).catch(() => undefined);
        throw error;
      }
      this.#unsynced.add(dirname(path));
    } catch (error) {
      throw unusable(path, error);
    }
  }

  /** The origin's own folder must be there: a mount point with nothing mounted is no place for a policy. */
  async #makeDirectory(path: string): Promise<void> {
    try {
      await mkdir(path);
    } catch (error) {
      if (codeOf(error) === "EEXIST") return;
      if (codeOf(error) !== "ENOENT" || !path.startsWith(`${this.path}/`)) throw error;
      await this.#makeDirectory(dirname(path));
      return await this.#makeDirectory(path);
    }
    await chmod(path, 0o755); // Whatever the admin's umask.
    this.#unsynced.add(dirname(path));
  }
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o644);
  await file.chmod(0o644);
  await file.writeFile(bytes);
  await file.sync();
}

function unusable(path: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined || !/^E[A-Z]+$/.test(code)) return error;
  return new UnusableError(`the policy cannot be read or written: ${path}: ${code}`, {
    cause: error,
    hint: "run it as the user whom the origin's folder belongs to, where the folder is mounted",
  });
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}
