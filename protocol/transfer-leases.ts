import type { Stretch } from "./transfer-asks.ts";
import type { TransferEvent } from "./transfer-events.ts";

/** What may be asked of origins and far peers: some stretches; "all": everything; "far": everything, of far peers only. */
export type Leases = readonly Stretch[] | "all" | "far";

/** The leases after an event. */
export function leasesAfter(
  leases: Leases,
  event: Extract<TransferEvent, { kind: "leased" | "lapsed" | "opened" | "closed" }>,
): Leases {
  const stretches = typeof leases === "string" ? undefined : leases;
  switch (event.kind) {
    case "leased": {
      const { first, end, isFarOnly = false } = event;
      return stretches === undefined ? leases : [...stretches, { first, end, isFarOnly }];
    }
    case "lapsed":
      return stretches?.filter(({ first, end }) => first !== event.first || end !== event.end) ?? leases;
    case "opened":
      return event.isFarOnly === true ? "far" : "all";
    case "closed":
      return stretches ?? [];
  }
}
