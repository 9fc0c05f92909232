import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { RawOrders } from "./hostile-process.ts";
import type { LiarOrders } from "./liar.ts";

/** Hostile members as processes of their own; they end with the test. */
export class Liars implements AsyncDisposable {
  readonly #processes: ChildProcess[] = [];

  /** Starts one. Answers its address. */
  start(orders: LiarOrders): Promise<string> {
    return this.#start("liar.ts", orders);
  }

  /** Starts one that speaks the protocol wrongly. Answers its peer ids. */
  async startRaw(orders: RawOrders): Promise<string[]> {
    return (await this.#start("hostile-process.ts", orders)).split(" ");
  }

  /** Answers the first line that it writes. */
  async #start(file: string, orders: LiarOrders | RawOrders): Promise<string> {
    const path = join(import.meta.dirname, file);
    const liar = spawn(process.execPath, [path, JSON.stringify(orders)], { stdio: ["ignore", "pipe", "inherit"] });
    this.#processes.push(liar);
    const ended = once(liar, "exit").then(() => {
      throw new Error("the liar ended");
    });
    ended.catch(() => undefined);
    const [line] = (await Promise.race([once(createInterface({ input: liar.stdout! }), "line"), ended])) as [string];
    return line;
  }

  /** Ends all that were started. */
  async end(): Promise<void> {
    for (const liar of this.#processes.splice(0)) {
      if (liar.exitCode !== null || liar.signalCode !== null) continue;
      const exited = once(liar, "exit");
      liar.kill("SIGKILL");
      await exited;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }
}
