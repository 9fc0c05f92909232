import * as assert from "uvu/assert";
import type { Announcement, Holding } from "../../protocol/announcement.ts";
import type { Directory } from "../../protocol/directory.ts";
import { Gossip, type GossipAction, type GossipEvent } from "../../protocol/gossip.ts";
import type { Random } from "../../protocol/random.ts";
import { hash, network, newDirectory, type Said, signedBy } from "./announcements.ts";

export const labels = { addresses: ["/ip4/10.0.0.9/tcp/4001"], name: "ws", site: "hq", rack: "" };

export interface Scene {
  readonly gossip: Gossip;
  readonly directory: Directory;
  /** Takes a step; the last `wakeAt` is kept apart. */
  readonly step: (event: GossipEvent, nowMs: number) => GossipAction[];
  readonly wakeAtMs: () => number;
}

export function newScene(random: Random = () => 0.5): Scene {
  const directory = newDirectory();
  const gossip = new Gossip({ network, self: "me", directory, hash, random });
  let wakeAtMs = Number.POSITIVE_INFINITY;
  const step = (event: GossipEvent, nowMs: number) =>
    gossip.step(event, nowMs).filter((action) => {
      if (action.kind === "wakeAt") wakeAtMs = action.atMs;
      return action.kind !== "wakeAt";
    });
  return { gossip, directory, step, wakeAtMs: () => wakeAtMs };
}

export function started(whole: readonly Holding[] = [], random?: Random): Scene {
  const scene = newScene(random);
  scene.step({ kind: "started", labels, epoch: 100, whole }, 0);
  return scene;
}

/** A scene whose neighbour has told all heads that it knows, and has heard of us. */
export function joined(peer = "n"): Scene {
  const scene = newScene();
  scene.step({ kind: "started", labels, epoch: 100, whole: [] }, -1_300);
  scene.step({ kind: "joined", peer }, -1_300);
  scene.step({ kind: "answered", from: peer }, -1_200);
  assert.is(scene.step({ kind: "woke" }, -90)[0]?.kind, "announce");
  return scene;
}

export const announced = (actions: readonly GossipAction[]): Announcement[] =>
  actions.flatMap((action) => (action.kind === "announce" ? [action.announcement] : []));
export const received = (
  from: string,
  peer: string,
  whole: readonly Holding[],
  said?: Said,
  before?: readonly Holding[],
) => ({ kind: "received", from, signed: signedBy(peer, whole, said, before) }) as const;

/** Sleeps until something is done, at most until `untilMs`: what, and when. */
export function sleep({ step, wakeAtMs }: Scene, untilMs: number): [GossipAction[], number] {
  for (let nowMs = wakeAtMs(); nowMs <= untilMs; nowMs = wakeAtMs()) {
    const actions = step({ kind: "woke" }, nowMs);
    if (actions.length > 0) return [actions, nowMs];
  }
  return [[], untilMs];
}
