import type { PeerName } from "../../protocol/directory.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import type { ClassRates, TrafficClass } from "../../protocol/politeness.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import type { Join, JoinListener, SwarmHandlers } from "../ports.ts";
import { ClientPool } from "./client-pool.ts";
import { ExchangeClient } from "./exchange-client.ts";
import { ExchangeServer } from "./exchange-server.ts";
import type { Frames } from "./frames.ts";
import { RegisterClient, type RegisterTimings } from "./register-client.ts";
import { RegisterServer } from "./register-server.ts";

export interface ExchangeTimings {
  /** How long an answer to a join is awaited. */
  readonly joinMs?: number;
  readonly register?: RegisterTimings;
}

export interface ExchangeParts {
  readonly handlers: SwarmHandlers;
  /** A stream to a peer, dialled if it is not here. @throws {UnreachableError} */
  readonly open: (peer: PeerName, protocol: "swarm" | "register") => Promise<Frames>;
  /** A peer does not answer what it was asked. */
  readonly onSilent: (peer: PeerName, fault: "silent" | undefined, reason: string) => void;
  readonly timings?: ExchangeTimings;
  /** What peers may be sent; absent: without limit. */
  readonly up?: ClassRates;
}

/** All that members say to each other about payloads, both sides of it, over whatever carries frames. */
export class Exchange {
  readonly server: ExchangeServer;
  readonly registrar: RegisterServer;
  readonly #clients: ClientPool<ExchangeClient>;
  readonly #wanters: ClientPool<RegisterClient>;

  constructor({ handlers, open, onSilent, timings = {}, up }: ExchangeParts) {
    this.server = new ExchangeServer(handlers, up);
    this.registrar = new RegisterServer(handlers);
    this.#clients = new ClientPool(async (peer, onIdle) => {
      const silent = () => onSilent(peer, "silent", "it does not answer whether it has a payload");
      return new ExchangeClient(await open(peer, "swarm"), { onIdle, onSilent: silent, joinMs: timings.joinMs });
    });
    this.#wanters = new ClientPool(async (peer, onEnd) => {
      // Others are registrars as well: it costs a moment, and says nothing of what it holds.
      const silent = () => onSilent(peer, undefined, "it does not answer as a registrar");
      return new RegisterClient(await open(peer, "register"), { onEnd, onSilent: silent }, timings.register);
    });
  }

  join(
    peer: PeerName,
    payload: PayloadId,
    items: number,
    listener: JoinListener,
    traffic?: TrafficClass,
  ): Promise<Join | undefined> {
    return this.#clients.use(peer, (client) => client.join(payload, items, listener, traffic));
  }

  /** What is asked before the peer has been reached goes out then, at once. */
  take(peer: PeerName, payload: PayloadId, items: number, listener: JoinListener, traffic?: TrafficClass): Join {
    const early = new Set<number>();
    let join: Join | undefined;
    let hasLeft = false;
    const begin = (client: ExchangeClient) => {
      join = client.take(payload, items, listener, traffic);
      if (hasLeft) join.leave();
      else if (early.size > 0) join.request([...early]);
    };
    this.#clients.use(peer, begin).catch(() => {
      if (!hasLeft) listener.ended();
    });
    return {
      have: "all",
      request: (wanted) => {
        if (join !== undefined) return join.request(wanted);
        for (const item of wanted) early.add(item);
      },
      cancel: (unwanted) => {
        if (join !== undefined) return join.cancel(unwanted);
        for (const item of unwanted) early.delete(item);
      },
      leave: () => {
        hasLeft = true;
        join?.leave();
      },
    };
  }

  register(peer: PeerName, payload: PayloadId, question: RegisterQuestion): Promise<RegisterAnswer> {
    return this.#wanters.use(peer, (client) => client.ask(payload, question));
  }

  close(): void {
    this.server.close();
    this.#clients.close();
    this.#wanters.close();
  }
}
