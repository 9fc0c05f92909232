import type { PeerName } from "../../protocol/directory.ts";
import type { Admission } from "../ports.ts";

/** Tells of each peer once that it is not let in: it will try again and again. */
export class DeniedPeers {
  readonly #told = new Set<PeerName>();
  readonly #onDenied: (peer: PeerName, reason: string) => void;

  constructor(onDenied: (peer: PeerName, reason: string) => void) {
    this.#onDenied = onDenied;
  }

  /** What was decided of a peer. */
  note(peer: PeerName, admission: Admission): Admission {
    if (admission === "member") this.#told.delete(peer);
    if (admission !== "stranger" || this.#told.has(peer)) return admission;
    // Who makes a thousand names is not told of a thousand times.
    if (this.#told.size < toldMax) this.#onDenied(peer, "it is no member by the network's policy");
    this.#told.add(peer);
    if (this.#told.size > toldMax) this.#told.delete(this.#told.keys().next().value!);
    return admission;
  }
}

const toldMax = 1_000;
