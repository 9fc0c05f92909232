import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, lstat, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BusyError } from "../../protocol/errors.ts";
import { isCode } from "./folder-walk.ts";

/**
 * A file that only one of many programs on many machines has at a time. Who has it touches it all the time; one that stays
 * the same for seconds is dead, and is broken.
 */
export class FileLock implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;
  /** Nobody else's lock has the same. */
  readonly #token: string;
  readonly #touching: NodeJS.Timeout;
  #touched: Promise<void> = Promise.resolve();

  private constructor(path: string, file: FileHandle, token: string) {
    this.#path = path;
    this.#file = file;
    this.#token = token;
    this.#touching = setInterval(() => {
      this.#touched = this.#touch();
    }, touchMs).unref();
  }

  /** Waits until nobody has it. @throws {BusyError} when others keep it; what the system says where it cannot be made. */
  static async take(path: string): Promise<FileLock> {
    let [seen, sinceMs] = ["", performance.now()];
    const untilMs = performance.now() + waitMs;
    for (;;) {
      const token = randomBytes(16).toString("hex");
      const file = await create(path, token);
      if (file !== undefined) return new FileLock(path, file, token);
      const now = await identity(path);
      if (now !== seen) [seen, sinceMs] = [now, performance.now()];
      else if (now !== "" && performance.now() - sinceMs > deadMs) await breakLock(path, now);
      if (performance.now() > untilMs) throw new BusyError(`${path} is held by another publisher`);
      await sleep(retryMs * (1 + Math.random()));
    }
  }

  /** Lets go of it; one that somebody else has by now stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#touching);
    await this.#touched;
    await this.#file.close();
    const token = await readFile(this.#path, "utf8").catch(() => undefined);
    if (token === this.#token) await rm(this.#path, { force: true });
  }

  /** By the open file: whoever has broken the lock has another one. Never rejects. */
  async #touch(): Promise<void> {
    const now = new Date();
    await this.#file.utimes(now, now).catch(() => undefined);
  }
}

/** Undefined where there is one already. */
async function create(path: string, token: string): Promise<FileHandle | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, "wx", 0o644);
  } catch (error) {
    if (isCode(error, "EEXIST")) return undefined;
    throw error;
  }
  try {
    await file.chmod(0o644); // Whatever the publisher's umask.
    await file.writeFile(token);
    return file;
  } catch (error) {
    await file.close();
    await rm(path, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** What changes with every touch and every holder; empty where there is none. */
async function identity(path: string): Promise<string> {
  try {
    // Over NFS only who opens a file sees how it is now, and not as it was some seconds ago.
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const { ino, mtimeNs } = await file.stat({ bigint: true });
    return `${ino} ${mtimeNs}`;
  } catch (error) {
    if (isCode(error, "ENOENT")) return "";
  }
  try {
    const { ino, mtimeNs } = await lstat(path, { bigint: true });
    return `${ino} ${mtimeNs}`;
  } catch {
    return "";
  }
}

/** Moves it away first, which only one can do; what turns out to be another one than was `seen` is put back. */
async function breakLock(path: string, seen: string): Promise<void> {
  const aside = join(dirname(path), `.${randomBytes(12).toString("hex")}.tmp`);
  try {
    await rename(path, aside);
    if ((await identity(aside)) !== seen) await link(aside, path);
  } catch {
    // Somebody else was faster.
  }
  await rm(aside, { force: true });
}

const waitMs = 10_000;
const deadMs = 3_000;
const touchMs = 500;
const retryMs = 20;
