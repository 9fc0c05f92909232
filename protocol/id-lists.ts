/**
 * Many lists of numbers, each named by a small index, in one typed array: a list costs its numbers and 12 bytes. What
 * lists leave behind is reclaimed when the array is full.
 */
export class IdLists {
  #numbers = new Uint32Array(64);
  #end = 0;
  #starts = new Uint32Array(8);
  #lengths = new Uint32Array(8);
  #rooms = new Uint32Array(8);
  #total = 0;

  /** Numbers in all lists. */
  get total(): number {
    return this.#total;
  }

  lengthOf(list: number): number {
    return this.#lengths[list] ?? 0;
  }

  /** The numbers of a list, until any list changes. */
  view(list: number): Uint32Array {
    const start = this.#starts[list] ?? 0;
    return this.#numbers.subarray(start, start + this.lengthOf(list));
  }

  at(list: number, index: number): number {
    return this.#numbers[this.#starts[list]! + index]!;
  }

  /** Puts `numbers` in the place of what the list had. They may not be a view of a list. */
  set(list: number, numbers: Uint32Array): void {
    while (list >= this.#starts.length) this.#growLists();
    this.#total += numbers.length - this.#lengths[list]!;
    if (numbers.length > this.#rooms[list]!) {
      this.#lengths[list] = 0;
      this.#rooms[list] = 0;
      // A list that grows by one now and then is not moved each time.
      const room = numbers.length + (numbers.length >> 4) + 1;
      if (this.#end + room > this.#numbers.length) this.#reclaim(room);
      this.#starts[list] = this.#end;
      this.#rooms[list] = room;
      this.#end += room;
    }
    this.#numbers.set(numbers, this.#starts[list]!);
    this.#lengths[list] = numbers.length;
  }

  clear(list: number): void {
    this.#total -= this.lengthOf(list);
    this.#lengths[list] = 0;
    this.#rooms[list] = 0;
  }

  /** Moves all lists together into an array with room for `more`. */
  #reclaim(more: number): void {
    let needed = more;
    for (const room of this.#rooms) needed += room;
    const numbers = new Uint32Array(Math.ceil(needed * 1.5) + 64);
    let end = 0;
    for (let list = 0; list < this.#starts.length; list++) {
      numbers.set(this.view(list), end);
      this.#starts[list] = end;
      end += this.#rooms[list]!;
    }
    this.#numbers = numbers;
    this.#end = end;
  }

  #growLists(): void {
    const larger = (array: Uint32Array) => {
      const twice = new Uint32Array(array.length * 2);
      twice.set(array);
      return twice;
    };
    this.#starts = larger(this.#starts);
    this.#lengths = larger(this.#lengths);
    this.#rooms = larger(this.#rooms);
  }
}
