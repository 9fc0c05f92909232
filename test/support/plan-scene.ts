import { ItemGroups } from "../../protocol/item-groups.ts";
import { MIB } from "../../protocol/limits.ts";
import {
  defaultOriginPlanLimits,
  OriginPlan,
  type OriginPlanAction,
  type OriginPlanEvent,
  type OriginPlanParts,
} from "../../protocol/origin-plan.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { RegisterAnswer } from "../../protocol/register-messages.ts";

/** One segment, and 64 chunks of 1 MiB: five groups. */
export const groups = new ItemGroups({ segments: 1, items: 65, bytes: 64 * MIB });

export function scene(more: Partial<OriginPlanParts> = {}, seed = 1) {
  const stored = new Set<number>();
  const parts: OriginPlanParts = {
    ...{ self: "me", key: "k", site: "s", groups, policy: "auto", holdsSlot: () => true, seeks: () => true },
    hasStored: (item) => stored.has(item),
    lacks: (first, end) => Array.from({ length: end - first }, (_, i) => first + i).some((item) => !stored.has(item)),
    wanters: () => ["other"],
    ...more,
  };
  const plan = new OriginPlan(parts, defaultOriginPlanLimits, seededRandom(seed));
  const at = (nowMs: number, ...events: readonly OriginPlanEvent[]) =>
    events.flatMap((event) => {
      if (event.kind === "stored") for (const item of event.items) stored.add(item);
      return plan.step(event, nowMs);
    });
  return { at, stored };
}

export const registrars = (...members: string[]): OriginPlanEvent => ({ kind: "registrars", members });
export const woke: OriginPlanEvent = { kind: "woke" };
export const answer = (from: string, more: Partial<RegisterAnswer> = {}): OriginPlanEvent => {
  return { kind: "answer", from, answer: { peers: [], leases: [], leaseMs: 2500, retryAfterMs: 500, ...more } };
};
export const lease = (group: number, from: "origin" | "far" = "origin") => ({ group, from });

export function told(actions: readonly OriginPlanAction[]): string[] {
  return actions.map(textOf).filter((text) => text !== "");
}

function textOf(action: OriginPlanAction): string {
  switch (action.kind) {
    case "register":
      return `ask ${action.to}`;
    case "leased":
      return `${action.isFarOnly ? "far" : "leased"} ${action.first}-${action.end}`;
    case "lapsed":
      return `lapsed ${action.first}-${action.end}`;
    case "peers":
      return `peers ${action.peers.join()}`;
    case "opened":
      return action.isFarOnly ? "opened far" : "opened";
    case "closed":
    case "searchNeighbours":
      return action.kind;
    case "wakeAt":
      return "";
  }
}

export const questionOf = (actions: readonly OriginPlanAction[]) => {
  for (const action of actions) if (action.kind === "register") return action.question;
  throw new Error("nothing was asked");
};
