import type { Libp2p } from "@libp2p/interface";
import type { Multiaddr } from "@multiformats/multiaddr";

/** Keeps a connection to each configured peer: dials at the start, and again, less and less often, while it is away. */
export class Bootstrap {
  readonly #host: Libp2p;
  readonly #addresses: readonly Multiaddr[];
  readonly #timers = new Map<Multiaddr, NodeJS.Timeout>();
  readonly #stopped = new AbortController();

  constructor(host: Libp2p, addresses: readonly Multiaddr[]) {
    this.#host = host;
    this.#addresses = addresses;
  }

  start(): void {
    for (const address of this.#addresses) void this.#keep(address, firstRetryMs);
  }

  stop(): void {
    this.#stopped.abort();
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  /** Never rejects: a peer that is away is tried again later. */
  async #keep(address: Multiaddr, retryMs: number): Promise<void> {
    let nextMs = Math.min(retryMsMax, retryMs * 2);
    try {
      const { signal } = this.#stopped;
      const connection = await this.#host.dial(address, { signal });
      nextMs = firstRetryMs;
      connection.addEventListener("close", () => this.#later(address, firstRetryMs), { once: true });
      return;
    } catch {
      this.#later(address, nextMs);
    }
  }

  #later(address: Multiaddr, delayMs: number): void {
    if (this.#stopped.signal.aborted) return;
    this.#timers.set(address, setTimeout(() => void this.#keep(address, delayMs), delayMs).unref());
  }
}

const firstRetryMs = 500;
const retryMsMax = 60_000;
