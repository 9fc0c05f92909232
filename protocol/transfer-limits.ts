import { transferInFlightBytesMax } from "./limits.ts";

/** What a transfer may wait for, and take on. */
export interface TransferLimits {
  /** How long after its start the origin is left alone while peers have not said what they have. */
  readonly joinMs: number;
  /** How long a transfer in which nobody has an item waits for somebody who has. */
  readonly hopelessMs: number;
  /** How long it goes on without an item while nothing can be asked of sources that are in trouble or have gone. */
  readonly patienceMs: number;
  readonly inFlightBytesMax: number;
}

export const defaultTransferLimits: TransferLimits = {
  // A LAN dial is given 500 ms (DESIGN section 7, rule 9); whoever is up answers a join in a tenth of that.
  joinMs: 600,
  hopelessMs: 3_000,
  patienceMs: 20_000,
  inFlightBytesMax: transferInFlightBytesMax,
};
