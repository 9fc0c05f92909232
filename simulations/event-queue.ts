/** What something that happens later happens to. */
export interface Happening {
  happen(what: number, about: unknown): void;
}

/**
 * What is still to happen, the earliest first, and of two at the same time the one that was said first: a binary heap in
 * typed arrays, since a run has tens of millions of events.
 */
export class EventQueue {
  #nowMs = 0;
  #length = 0;
  #order = 0;
  #times: Float64Array = new Float64Array(firstCapacity);
  #orders: Float64Array = new Float64Array(firstCapacity);
  #slots: Uint32Array = new Uint32Array(firstCapacity);
  readonly #targets: (Happening | undefined)[] = [];
  readonly #whats: number[] = [];
  readonly #abouts: unknown[] = [];
  readonly #free: number[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** How much is still to happen. */
  get length(): number {
    return this.#length;
  }

  /** How much was ever said to happen. */
  get said(): number {
    return this.#order;
  }

  /** Something happens at a time, or now if that has passed. */
  at(timeMs: number, target: Happening, what: number, about: unknown = undefined): void {
    if (this.#length === this.#times.length) this.#grow();
    const slot = this.#free.pop() ?? this.#targets.length;
    this.#targets[slot] = target;
    this.#whats[slot] = what;
    this.#abouts[slot] = about;
    this.#rise(this.#length++, Math.max(timeMs, this.#nowMs), this.#order++, slot);
  }

  /** Lets the next thing happen. Answers false when nothing is left, or only what comes after `untilMs`. */
  next(untilMs: number = Number.POSITIVE_INFINITY): boolean {
    if (this.#length === 0 || this.#times[0]! > untilMs) return false;
    this.#nowMs = this.#times[0]!;
    const slot = this.#slots[0]!;
    const target = this.#targets[slot]!;
    const what = this.#whats[slot]!;
    const about = this.#abouts[slot];
    this.#targets[slot] = undefined;
    this.#abouts[slot] = undefined;
    this.#free.push(slot);
    const last = --this.#length;
    if (last > 0) this.#sink(this.#times[last]!, this.#orders[last]!, this.#slots[last]!);
    target.happen(what, about);
    return true;
  }

  #rise(from: number, time: number, order: number, slot: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const parentTime = this.#times[parent]!;
      // Whoever rises was said last: at the same time it comes after.
      if (parentTime <= time) break;
      this.#times[at] = parentTime;
      this.#orders[at] = this.#orders[parent]!;
      this.#slots[at] = this.#slots[parent]!;
      at = parent;
    }
    this.#times[at] = time;
    this.#orders[at] = order;
    this.#slots[at] = slot;
  }

  #sink(time: number, order: number, slot: number): void {
    const length = this.#length;
    let at = 0;
    while (true) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && this.#isBefore(child + 1, this.#times[child]!, this.#orders[child]!)) child++;
      if (!this.#isBefore(child, time, order)) break;
      this.#times[at] = this.#times[child]!;
      this.#orders[at] = this.#orders[child]!;
      this.#slots[at] = this.#slots[child]!;
      at = child;
    }
    this.#times[at] = time;
    this.#orders[at] = order;
    this.#slots[at] = slot;
  }

  #isBefore(at: number, time: number, order: number): boolean {
    const other = this.#times[at]!;
    return other < time || (other === time && this.#orders[at]! < order);
  }

  #grow(): void {
    const capacity = 2 * this.#times.length;
    const [times, orders, slots] = [this.#times, this.#orders, this.#slots];
    this.#times = new Float64Array(capacity);
    this.#orders = new Float64Array(capacity);
    this.#slots = new Uint32Array(capacity);
    this.#times.set(times);
    this.#orders.set(orders);
    this.#slots.set(slots);
  }
}

const firstCapacity = 1024;
