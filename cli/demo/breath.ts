import { setImmediate } from "node:timers/promises";

/** For long loops of synchronous calls: lets the process hear its signals now and then. */
export class Breath {
  readonly #signal: AbortSignal;
  #lastMs: number = performance.now();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** @throws the signal's reason. */
  async take(): Promise<void> {
    if (performance.now() - this.#lastMs < breathMs) return;
    await setImmediate();
    this.#signal.throwIfAborted();
    this.#lastMs = performance.now();
  }
}

const breathMs = 20;
