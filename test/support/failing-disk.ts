import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

/** What needs a block or an inode: with a full disk each of them may be the one that fails. */
const calls = ["openSync", "writeFileSync", "writeSync", "mkdirSync", "renameSync", "linkSync", "fsyncSync"] as const;
const promised = ["open", "writeFile", "mkdir", "rename", "link"] as const;

type Callable = (...parameters: never[]) => unknown;

/** The filesystem of this thread, one of whose calls fails with ENOSPC. */
export class FailingDisk implements Disposable {
  readonly #real = new Map<string, Callable>();
  #left = Number.POSITIVE_INFINITY;
  /** The call that failed: `renameSync <path>`. */
  failed: string | undefined;

  constructor() {
    for (const name of calls) this.#wrap(fs, name, name);
    for (const name of promised) this.#wrap(fs.promises, name, `promises.${name}`);
    syncBuiltinESMExports();
  }

  /** From now on the call after `count` others fails, and those after it work again. */
  failAfter(count: number): void {
    this.#left = count;
    this.failed = undefined;
  }

  /** Nothing fails any more. */
  calm(): void {
    this.#left = Number.POSITIVE_INFINITY;
  }

  [Symbol.dispose](): void {
    for (const name of calls) Object.assign(fs, { [name]: this.#real.get(name) });
    for (const name of promised) Object.assign(fs.promises, { [name]: this.#real.get(`promises.${name}`) });
    syncBuiltinESMExports();
  }

  #wrap(holder: object, name: string, key: string): void {
    const real = (holder as Record<string, Callable>)[name]!;
    this.#real.set(key, real);
    const wrapped = (...parameters: never[]) => {
      const path = String(parameters[0]);
      if (needsRoom(name, parameters) && this.#left-- === 0) {
        this.failed = `${key} ${path}`;
        const error = new Error(`ENOSPC: no space left on device, ${name} '${path}'`);
        throw Object.assign(error, { code: "ENOSPC", errno: -28, syscall: name, path });
      }
      return real(...parameters);
    };
    // A promise rejects, and does not throw.
    const asynchronous = async (...parameters: never[]) => await wrapped(...parameters);
    Object.assign(holder, { [name]: key === name ? wrapped : asynchronous });
  }
}

/** Reading a file takes no room. */
function needsRoom(name: string, parameters: readonly unknown[]): boolean {
  if (name !== "open" && name !== "openSync") return true;
  const flags = parameters[1] ?? "r";
  return typeof flags === "number" ? (flags & fs.constants.O_CREAT) !== 0 : flags !== "r";
}
