import { type Random, randomBelow } from "./random.ts";

/** What to do with an item that a look came upon: take it out, leave it, or forget it. */
export type Look = "take" | "leave" | "forget";

/** The items that nobody has been asked for: taken out at random, so that nodes that start together differ. */
export class WantedItems {
  readonly #items: number[] = [];
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  get length(): number {
    return this.#items.length;
  }

  add(item: number): void {
    this.#items.push(item);
  }

  /** Looks at up to `lookAtMost` items from a random place on, and takes out the first that may be taken. */
  take(look: (item: number) => Look, lookAtMost: number): number | undefined {
    if (this.#items.length === 0) return undefined;
    let place = randomBelow(this.#items.length, this.#random);
    let looks = Math.min(lookAtMost, this.#items.length);
    while (looks > 0 && this.#items.length > 0) {
      if (place >= this.#items.length) place = 0;
      const item = this.#items[place]!;
      const verdict = look(item);
      if (verdict === "leave") {
        place++;
        looks--;
        continue;
      }
      this.#drop(place);
      if (verdict === "take") return item;
    }
    return undefined;
  }

  /** The first item for which `test` holds; those that are `done` are forgotten. */
  find(test: (item: number) => boolean, done: (item: number) => boolean): number | undefined {
    for (let place = this.#items.length - 1; place >= 0; place--) if (done(this.#items[place]!)) this.#drop(place);
    return this.#items.find(test);
  }

  #drop(place: number): void {
    const last = this.#items.pop()!;
    if (place < this.#items.length) this.#items[place] = last;
  }
}
