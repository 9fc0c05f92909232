import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { LiarOrders } from "./liar.ts";

/** Hostile members as processes of their own; they end with the test. */
export class Liars implements AsyncDisposable {
  readonly #processes: ChildProcess[] = [];

  /** Starts one. Answers its address. */
  async start(orders: LiarOrders): Promise<string> {
    const path = join(import.meta.dirname, "liar.ts");
    const liar = spawn(process.execPath, [path, JSON.stringify(orders)], { stdio: ["ignore", "pipe", "inherit"] });
    this.#processes.push(liar);
    const ended = once(liar, "exit").then(() => {
      throw new Error("the liar ended");
    });
    ended.catch(() => undefined);
    const [line] = (await Promise.race([once(createInterface({ input: liar.stdout! }), "line"), ended])) as [string];
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const liar of this.#processes) {
      if (liar.exitCode !== null || liar.signalCode !== null) continue;
      const exited = once(liar, "exit");
      liar.kill("SIGKILL");
      await exited;
    }
  }
}
