import type { PeerName } from "../../protocol/directory.ts";

/** Our side of one stream to a peer. */
interface Client {
  /** Nothing more can be asked here. */
  readonly hasEnded: boolean;
  abort(reason: Error): void;
}

/** One stream to each peer, for all who want something there; it is opened for the first of them. */
export class ClientPool<Kind extends Client> {
  readonly #open: (peer: PeerName, forget: () => void) => Promise<Kind>;
  readonly #clients = new Map<PeerName, Promise<Kind>>();

  /** `open` is told whom to call when its stream has ended. */
  constructor(open: (peer: PeerName, forget: () => void) => Promise<Kind>) {
    this.#open = open;
  }

  /** Asks a peer. @throws {UnreachableError} when it cannot be reached; what `ask` throws. */
  async use<Answer>(peer: PeerName, ask: (client: Kind) => Answer | Promise<Answer>): Promise<Answer> {
    const client = await this.#clientOf(peer);
    // The last one to leave has just ended its stream: a new one is opened.
    return await ask(client.hasEnded ? await this.#clientOf(peer) : client);
  }

  close(): void {
    const end = (client: Kind) => client.abort(new Error("the node stops"));
    for (const opening of this.#clients.values()) void opening.then(end, () => undefined);
  }

  #clientOf(peer: PeerName): Promise<Kind> {
    const known = this.#clients.get(peer);
    if (known !== undefined) return known;
    const forget = () => {
      if (this.#clients.get(peer) === opening) this.#clients.delete(peer);
    };
    const opening: Promise<Kind> = this.#open(peer, forget);
    this.#clients.set(peer, opening);
    opening.catch(forget);
    return opening;
  }
}
