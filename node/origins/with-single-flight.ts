import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import type { ChunkOptions, Origin, WaitOptions } from "../ports.ts";

/**
 * An origin that is asked once for what several want at the same time. Who leaves does not end it for the others; it
 * ends when all have left. Each gets bytes of its own.
 */
export class SingleFlightOrigin implements Origin {
  readonly #inner: Origin;
  readonly #flights = new Map<string, Flight>();

  constructor(inner: Origin) {
    this.#inner = inner;
  }

  get name(): string {
    return this.#inner.name;
  }

  latestRecord(variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return this.#join(`record ${variant}`, (signal) => this.#inner.latestRecord(variant, { signal }), options);
  }

  async chunk(hash: ChunkHash, sizeBytes: number, options: ChunkOptions = {}): Promise<Uint8Array> {
    // Two releases may have one chunk in two places, of which one has been changed.
    if (options.place !== undefined) return await this.#inner.chunk(hash, sizeBytes, options);
    const ask = (signal: AbortSignal) => this.#inner.chunk(hash, sizeBytes, { signal });
    return (await this.#join(`chunk ${hash} ${sizeBytes}`, ask, options)) as Uint8Array;
  }

  async index(options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return await this.#inner.index?.(options);
  }

  /** Asked for by one at a time anyway. */
  async policyFile(name: string, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return await this.#inner.policyFile?.(name, options);
  }

  async #join(key: string, ask: Ask, { signal }: WaitOptions): Promise<Uint8Array | undefined> {
    signal?.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, ask);
    const own = Promise.withResolvers<never>();
    const onAbort = () => own.reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const wait = flight.wait();
    try {
      return await Promise.race([wait, own.promise]);
    } finally {
      signal?.removeEventListener("abort", onAbort);
      flight.leave();
    }
  }

  #start(key: string, ask: Ask): Flight {
    const flight: Flight = new Flight(ask, () => {
      // Nobody may join what has ended, or what is being ended.
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    this.#flights.set(key, flight);
    return flight;
  }
}

type Ask = (signal: AbortSignal) => Promise<Uint8Array | undefined>;

/** One request, and how many wait for it. */
class Flight {
  readonly #controller = new AbortController();
  readonly #answer: Promise<Uint8Array | undefined>;
  readonly #onEnd: () => void;
  #waiting = 0;
  #given = 0;
  #isOver = false;

  constructor(ask: Ask, onEnd: () => void) {
    this.#onEnd = onEnd;
    this.#answer = ask(this.#controller.signal).finally(() => {
      this.#isOver = true;
      onEnd();
    });
    this.#answer.catch(() => undefined); // Those who wait hear of it.
  }

  wait(): Promise<Uint8Array | undefined> {
    this.#waiting++;
    // Bytes are given away to threads, so only one may have these. All copies are made before anybody goes on; a Buffer's
    // own `slice` would be no copy.
    const bytes = this.#answer.then((answer) => (this.#given++ === 0 ? answer : answer && new Uint8Array(answer)));
    bytes.catch(() => undefined); // Nobody hears of it who has left.
    return bytes;
  }

  leave(): void {
    // To abort what is over costs as much as many a chunk.
    if (--this.#waiting > 0 || this.#isOver) return;
    this.#onEnd();
    this.#controller.abort(new Error("nobody waits for it any more"));
  }
}
