import type { Libp2p } from "@libp2p/interface";
import type { Multiaddr } from "@multiformats/multiaddr";

export interface BootstrapOptions {
  /** How long after its first failure a peer is dialled again; each time twice as long, up to a minute. */
  readonly retryMs?: number;
  /** Whether no peer at all is here: then it may be our own link, and nobody waits long. */
  readonly isAlone?: () => boolean;
  /** Told once when a peer cannot be reached, until it was. */
  readonly onUnreachable?: (address: string, reason: string) => void;
}

/** Keeps a connection to each configured peer: dials at the start, and again, less and less often, while it is away. */
export class Bootstrap {
  readonly #host: Libp2p;
  readonly #addresses: readonly Multiaddr[];
  readonly #firstRetryMs: number;
  readonly #onUnreachable: (address: string, reason: string) => void;
  readonly #isAlone: () => boolean;
  readonly #timers = new Map<Multiaddr, NodeJS.Timeout>();
  readonly #unreachable = new Set<Multiaddr>();
  readonly #stopped = new AbortController();

  constructor(host: Libp2p, addresses: readonly Multiaddr[], options: BootstrapOptions = {}) {
    this.#host = host;
    this.#addresses = addresses;
    this.#firstRetryMs = options.retryMs ?? defaultRetryMs;
    this.#isAlone = options.isAlone ?? (() => false);
    this.#onUnreachable = options.onUnreachable ?? (() => undefined);
  }

  /** Resolves once each peer was dialled for the first time: the ids of those that were reached. Never rejects. */
  async start(): Promise<string[]> {
    const dialled = this.#addresses.map((address) => this.#keep(address, this.#firstRetryMs));
    return (await Promise.all(dialled)).filter((peer) => peer !== undefined);
  }

  stop(): void {
    this.#stopped.abort();
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  /** This node is alone, or somewhere else: who is away is tried again at once, and often at first. */
  hurry(): void {
    for (const address of this.#timers.keys()) this.#later(address, this.#firstRetryMs);
  }

  /** Never rejects: a peer that is away is tried again later. */
  async #keep(address: Multiaddr, retryMs: number): Promise<string | undefined> {
    try {
      const { signal } = this.#stopped;
      const connection = await this.#host.dial(address, { signal });
      this.#unreachable.delete(address);
      const sinceMs = performance.now();
      const onClose = () => {
        // One that ends at once was refused, and will be again: no reason to come back as often as to a lost friend.
        const isFriend = performance.now() - sinceMs > friendMs;
        this.#later(address, isFriend ? this.#firstRetryMs : retryMs);
      };
      connection.addEventListener("close", onClose, { once: true });
      if (connection.status !== "open") onClose();
      return connection.remotePeer.toString();
    } catch (error) {
      this.#report(address, error as Error);
      this.#later(address, retryMs);
      return undefined;
    }
  }

  #later(address: Multiaddr, delayMs: number): void {
    if (this.#stopped.signal.aborted) return;
    const nextMs = Math.min(this.#isAlone() ? aloneMsMax : retryMsMax, delayMs * 2);
    clearTimeout(this.#timers.get(address));
    const dial = () => {
      this.#timers.delete(address);
      void this.#keep(address, nextMs);
    };
    this.#timers.set(address, setTimeout(dial, delayMs).unref());
  }

  #report(address: Multiaddr, error: Error): void {
    if (this.#stopped.signal.aborted || this.#unreachable.has(address)) return;
    this.#unreachable.add(address);
    this.#onUnreachable(address.toString(), error.message);
  }
}

const defaultRetryMs = 500;
const retryMsMax = 60_000;
const aloneMsMax = 8_000;
/** Longer than any hello takes. */
const friendMs = 10_000;
