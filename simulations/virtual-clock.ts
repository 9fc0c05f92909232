/** Time that passes when it is told to: what is due is done in order, whole milliseconds apart. */
export class VirtualClock {
  #nowMs = 0;
  /** What is due at a millisecond, in the order in which it was asked for. */
  readonly #due = new Map<number, (() => void)[]>();
  /** A heap of these milliseconds. */
  readonly #times: number[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Has something done at `atMs`, or at once if that is over. */
  at(atMs: number, action: () => void): void {
    const timeMs = Math.max(this.#nowMs, Math.ceil(atMs));
    const due = this.#due.get(timeMs);
    if (due !== undefined) {
      due.push(action);
      return;
    }
    this.#due.set(timeMs, [action]);
    this.#push(timeMs);
  }

  /** Does all that is due until then. */
  run(untilMs: number): void {
    while (this.#times.length > 0 && this.#times[0]! <= untilMs) {
      const timeMs = this.#pop();
      this.#nowMs = timeMs;
      // What is asked for now, for now, is done in this walk too.
      for (const action of this.#due.get(timeMs) ?? []) action();
      this.#due.delete(timeMs);
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  #push(timeMs: number): void {
    const times = this.#times;
    let at = times.length;
    times.push(timeMs);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (times[parent]! <= timeMs) break;
      times[at] = times[parent]!;
      at = parent;
    }
    times[at] = timeMs;
  }

  #pop(): number {
    const times = this.#times;
    const first = times[0]!;
    const last = times.pop()!;
    if (times.length === 0) return first;
    let at = 0;
    while (true) {
      let child = 2 * at + 1;
      if (child >= times.length) break;
      if (child + 1 < times.length && times[child + 1]! < times[child]!) child++;
      if (times[child]! >= last) break;
      times[at] = times[child]!;
      at = child;
    }
    times[at] = last;
    return first;
  }
}
