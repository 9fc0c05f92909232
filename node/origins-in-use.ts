import type { OriginSet } from "./origins-of.ts";

/** The origins of a node, of which a reload makes others, and those of before until nobody uses them any more. */
export class OriginsInUse implements AsyncDisposable {
  #current: OriginSet;
  /** Sets that were replaced, until they are closed. */
  readonly #leaving = new Set<Promise<void>>();

  constructor(first: OriginSet) {
    this.#current = first;
  }

  get current(): OriginSet {
    return this.#current;
  }

  /** Takes others into use. `landed`: once nobody uses the ones of before; it must not reject. */
  replace(next: OriginSet, landed: Promise<void>): void {
    const before = this.#current;
    this.#current = next;
    // What goes wrong while they are closed is nobody's business any more.
    const leaving = landed.then(() => before[Symbol.asyncDispose]()).catch(() => undefined);
    this.#leaving.add(leaving);
    void leaving.then(() => this.#leaving.delete(leaving));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#leaving, this.#current[Symbol.asyncDispose]()]);
  }
}
