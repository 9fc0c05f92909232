import { Bitmap } from "./bitmap.ts";
import type { PeerName } from "./directory.ts";
import { defaultLinkLimits, type LinkAction, type LinkEvent, type LinkLimits, Links } from "./links.ts";
import {
  defaultOriginPlanLimits,
  OriginPlan,
  type OriginPlanAction,
  type OriginPlanEvent,
  type OriginPlanLimits,
  type OriginPlanParts,
} from "./origin-plan.ts";
import type { Random } from "./random.ts";
import type { RegisterAnswer, RegisterQuestion } from "./register-messages.ts";
import type { ChunkDescription, Distance, Transfer, TransferAction, TransferEvent } from "./transfer.ts";

/** Its `key` names the payload, the same at every member. */
export interface PayloadFetchParts
  extends Pick<OriginPlanParts, "self" | "site" | "key" | "groups" | "policy" | "holdsSlot"> {
  readonly distanceTo: (peer: PeerName) => Distance;
  /** What is asked of whom. Its origins are none where the policy is `never`. */
  readonly transfer: Transfer;
  /** Shorter ones for tests. */
  readonly planLimits?: OriginPlanLimits;
  readonly linkLimits?: LinkLimits;
}

/** What the world says of the items. */
type ItemEvent = Extract<TransferEvent, { readonly kind: "corrupt" | "missing" | "busy" | "failed" }>;

export type PayloadFetchEvent =
  | { readonly kind: "started" }
  | Extract<TransferEvent, { readonly kind: "described" | "stored" }>
  | ItemEvent
  /** The members that are registrars of the payload now; none: this node is alone. Without this event nobody is asked. */
  | Extract<OriginPlanEvent, { readonly kind: "registrars" | "unreachable" }>
  | { readonly kind: "answer"; readonly from: PeerName; readonly answer: RegisterAnswer }
  /**
   * These may have something of the payload; or have come, or said something, so that they are likely to; or have all of it,
   * as they say themselves. Origins wait for the answers of the latter two.
   */
  | { readonly kind: "offered"; readonly peers: readonly PeerName[]; readonly as?: "likely" | "holders" }
  /** A peer has joined us; or does not want to hear of our items any more. */
  | { readonly kind: "asked"; readonly peer: PeerName }
  | { readonly kind: "unjoined"; readonly peer: PeerName }
  /** A peer that we asked to join has answered what it has. */
  | { readonly kind: "joined"; readonly source: PeerName; readonly have: Bitmap | "all" }
  /** A peer has got more; `isAll` where it says that this was the last. */
  | { readonly kind: "has"; readonly source: PeerName; readonly items: readonly number[]; readonly isAll?: boolean }
  /** A peer has refused us, let go of us, has gone, or is not dealt with any more. */
  | { readonly kind: "left"; readonly source: PeerName }
  | { readonly kind: "woke" };

export type PayloadFetchAction =
  | Extract<
      TransferAction,
      { readonly kind: "ask" | "cancel" | "strike" | "segmentsComplete" | "complete" | "gaveUp" | "wakeAt" }
    >
  | { readonly kind: "register"; readonly to: PeerName; readonly question: RegisterQuestion }
  /** Asks a peer what it has, and to tell us of more. */
  | { readonly kind: "join"; readonly peer: PeerName; readonly isHolder: boolean }
  /** A peer that has joined us is told of what we have; or has to look for somebody else. */
  | { readonly kind: "accept"; readonly peer: PeerName }
  | { readonly kind: "refuse"; readonly peer: PeerName }
  /** Nothing more is asked of a peer, nor is it told anything; it hears of that. */
  | { readonly kind: "part"; readonly peer: PeerName }
  /** No registrar answers: whoever is connected is to be offered. */
  | { readonly kind: "searchNeighbours" };

/**
 * One payload on its way in, all that is decided about it: `Transfer` says what is asked of whom, `OriginPlan` what may
 * be asked of an origin, and `Links` who deals with whom. What one of them decides and another must know goes there at
 * once; what the world must do comes out.
 */
export class PayloadFetch {
  readonly transfer: Transfer;
  readonly #parts: PayloadFetchParts;
  readonly #plan: OriginPlan;
  readonly #links: Links;
  readonly #linkLimits: LinkLimits;
  /** Peers that we have joined, or asked to. */
  readonly #joined = new Set<PeerName>();
  /** What is expected of peers that were offered. */
  readonly #expected = new Map<PeerName, "likely" | "holders">();
  /** Items of which the plan knows that they are here, or come with others. */
  readonly #noted: Bitmap;
  #copiesOf: ChunkDescription["copiesOf"] = new Map();
  readonly #wakes = { transfer: never, plan: never, links: never };
  #wakeAtMs = never;
  #nowMs = 0;
  #actions: PayloadFetchAction[] = [];
  #isOver = false;

  constructor(parts: PayloadFetchParts, random: Random) {
    const { transfer, planLimits, linkLimits = defaultLinkLimits } = parts;
    this.#parts = parts;
    this.transfer = transfer;
    this.#linkLimits = linkLimits;
    this.#noted = new Bitmap(parts.groups.items);
    const rating = (peer: PeerName) => transfer.rateOf(peer);
    const holds = (peer: PeerName) => (transfer.heldBy(peer) ?? 0) > 0;
    this.#links = new Links(linkLimits, { rating, holds }, random);
    this.#plan = new OriginPlan(
      {
        ...parts,
        hasStored: (item) => transfer.hasStored(item),
        lacks: (first, end) => transfer.lacks(first, end),
        seeks: () => this.seeks,
        wanters: () => this.#links.wanters(),
      },
      planLimits ?? defaultOriginPlanLimits,
      random,
    );
  }

  /** Whether more peers would be of use. */
  get seeks(): boolean {
    return this.#links.count < this.#linkLimits.wanted || this.#links.lacksFar;
  }

  /**
   * Takes in one event and gives back everything to do about it. After its end peers may still join and leave, as long as
   * this node serves what it has.
   */
  step(event: PayloadFetchEvent, nowMs: number): PayloadFetchAction[] {
    this.#nowMs = nowMs;
    this.#take(event);
    this.#watch();
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  #take(event: PayloadFetchEvent): void {
    switch (event.kind) {
      case "started":
        this.#stepTransfer(event);
        return this.#note(this.#storedSegments());
      case "corrupt":
      case "missing":
      case "busy":
      case "failed":
        return this.#stepTransfer(event);
      case "described":
        return this.#describe(event);
      case "stored":
        // The plan first: at the end it says what it knows.
        this.#note([event.item, ...(this.#copiesOf.get(event.item) ?? [])]);
        return this.#stepTransfer(event);
      case "registrars":
      case "unreachable":
      case "answer":
        return this.#stepPlan(event);
      case "offered":
        if (event.as !== undefined) for (const peer of event.peers) this.#expected.set(peer, event.as);
        return this.#offer(event.peers, event.as !== undefined);
      case "asked":
        return this.#stepLinks({ kind: "asked", by: this.#placed(event.peer) });
      case "unjoined":
        return this.#joined.has(event.peer) ? undefined : this.#stepLinks({ kind: "lost", peer: event.peer });
      case "joined":
        return this.#join(event.source, event.have);
      case "has":
        return this.#learn(event);
      case "left":
        return this.#lose(event.source);
      case "woke":
        return this.#wake();
    }
  }

  #storedSegments(): number[] {
    const stored: number[] = [];
    for (let item = 0; item < this.#parts.groups.end(0); item++) if (this.transfer.hasStored(item)) stored.push(item);
    return stored;
  }

  #describe(event: Extract<PayloadFetchEvent, { kind: "described" }>): void {
    const { copiesOf, stored } = event.description;
    this.#copiesOf = copiesOf;
    const here = this.#fresh(stored);
    // At the end the plan says what it knows, and this is the end.
    if (this.#noted.count === this.#parts.groups.items) this.#stepPlan({ kind: "stored", items: here });
    // Copies of what is still missing: no lease brings them, and one that waited for them would keep others from coming.
    const coming = this.#fresh([...copiesOf].flatMap(([item, copies]) => (this.#noted.has(item) ? [] : copies)));
    this.#stepTransfer(event);
    this.#stepPlan({ kind: "described", items: [...here, ...coming] });
  }

  /** The plan counts what is here: each item once, however often it came. */
  #note(items: readonly number[]): void {
    const fresh = this.#fresh(items);
    if (fresh.length > 0) this.#stepPlan({ kind: "stored", items: fresh });
  }

  /** Those of which the plan has not heard yet; it does now. */
  #fresh(items: readonly number[]): number[] {
    const fresh = items.filter((item) => !this.#noted.has(item));
    for (const item of fresh) this.#noted.add(item);
    return fresh;
  }

  #join(source: PeerName, have: Bitmap | "all"): void {
    this.#stepTransfer({ kind: "joined", source, have, distance: this.#parts.distanceTo(source) });
    this.#stepLinks({ kind: "linked", peer: source });
    if (have === "all") this.#stepLinks({ kind: "complete", peer: source });
  }

  #learn({ source, items, isAll }: Extract<PayloadFetchEvent, { kind: "has" }>): void {
    this.#stepTransfer({ kind: "has", source, items });
    const hasAll = isAll === true || this.transfer.heldBy(source) === this.#parts.groups.items;
    if (hasAll) this.#stepLinks({ kind: "complete", peer: source });
  }

  /** A peer counts for nothing now. */
  #lose(peer: PeerName, retryAtMs?: number): void {
    this.#joined.delete(peer);
    this.#expected.delete(peer);
    this.#stepTransfer({ kind: "left", source: peer });
    this.#stepLinks({ kind: "lost", peer, ...(retryAtMs === undefined ? {} : { retryAtMs }) });
  }

  #offer(peers: readonly PeerName[], isNews: boolean): void {
    this.#stepLinks({ kind: "offered", peers: peers.map((peer) => this.#placed(peer)), isNews });
  }

  #placed(peer: PeerName) {
    return { peer, distance: this.#parts.distanceTo(peer) };
  }

  #stepTransfer(event: TransferEvent): void {
    if (this.#isOver) return;
    const actions = this.transfer.step(event, this.#nowMs);
    this.#noteWake("transfer", actions);
    for (const action of actions) this.#routeTransfer(action);
  }

  #stepPlan(event: OriginPlanEvent): void {
    if (this.#isOver) return;
    const actions = this.#plan.step(event, this.#nowMs);
    this.#noteWake("plan", actions);
    for (const action of actions) this.#routePlan(action);
  }

  #stepLinks(event: LinkEvent): void {
    const actions = this.#links.step(event, this.#nowMs);
    this.#noteWake("links", actions);
    for (const action of actions) this.#routeLinks(action);
  }

  /** Before anything else: what follows may step the same machine again, and that one's time is the later word. */
  #noteWake(
    machine: "transfer" | "plan" | "links",
    actions: readonly (TransferAction | OriginPlanAction | LinkAction)[],
  ): void {
    for (const action of actions) if (action.kind === "wakeAt") this.#wakes[machine] = action.atMs;
  }

  #routeTransfer(action: TransferAction): void {
    switch (action.kind) {
      case "ask":
      case "cancel":
      case "strike":
      case "segmentsComplete":
        this.#actions.push(action);
        return;
      case "drop":
        this.#actions.push({ kind: "part", peer: action.source });
        return this.#lose(action.source, action.retryAtMs);
      case "complete":
        this.#stepPlan({ kind: "finished" });
        this.#isOver = true;
        this.#actions.push(action);
        return this.#stepLinks({ kind: "complete", peer: "self" });
      case "gaveUp":
        this.#isOver = true;
        this.#actions.push(action);
        return;
      case "wakeAt":
        return;
    }
  }

  #routePlan(action: OriginPlanAction): void {
    switch (action.kind) {
      case "register":
      case "searchNeighbours":
        this.#actions.push(action);
        return;
      case "leased":
      case "lapsed":
      case "opened":
      case "closed":
        this.#stepTransfer(action);
        return this.#stepLinks({ kind: "far", isNeeded: this.#plan.bringsFar });
      case "peers":
        return this.#offer(action.peers, false);
      case "wakeAt":
        return;
    }
  }

  #routeLinks(action: LinkAction): void {
    switch (action.kind) {
      case "connect":
        return this.#connect(action.peer);
      case "accept":
        this.#actions.push({ kind: "accept", peer: action.peer });
        // A link is of use both ways.
        return this.#isOver || this.#joined.has(action.peer) ? undefined : this.#connect(action.peer);
      case "refuse":
        this.#actions.push({ kind: "refuse", peer: action.peer });
        return;
      case "part":
        this.#joined.delete(action.peer);
        this.#stepTransfer({ kind: "left", source: action.peer });
        this.#actions.push({ kind: "part", peer: action.peer });
        return;
      case "seek":
        return this.#stepPlan({ kind: "seek" });
      case "wakeAt":
        return;
    }
  }

  #connect(peer: PeerName): void {
    const expected = this.#expected.get(peer);
    this.#joined.add(peer);
    this.#stepTransfer({ kind: "joining", source: peer, isLikely: expected !== undefined });
    this.#actions.push({ kind: "join", peer, isHolder: expected === "holders" });
  }

  /** Each machine whose time has come hears of it. */
  #wake(): void {
    const { transfer, plan, links } = this.#wakes;
    this.#wakeAtMs = never;
    if (transfer <= this.#nowMs) {
      this.#wakes.transfer = never;
      this.#stepTransfer({ kind: "woke" });
    }
    if (plan <= this.#nowMs) {
      this.#wakes.plan = never;
      this.#stepPlan({ kind: "woke" });
    }
    if (links <= this.#nowMs) {
      this.#wakes.links = never;
      this.#stepLinks({ kind: "woke" });
    }
  }

  /** One time for all three; one that lies too early only asks for the next. */
  #watch(): void {
    const { transfer, plan, links } = this.#wakes;
    const atMs = this.#isOver ? links : Math.min(transfer, plan, links);
    if (atMs >= this.#wakeAtMs) return;
    this.#wakeAtMs = atMs;
    this.#actions.push({ kind: "wakeAt", atMs });
  }
}

const never = Number.POSITIVE_INFINITY;
