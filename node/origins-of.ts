import { setImmediate as nextTurn } from "node:timers/promises";
import { DeadlineError } from "../protocol/errors.ts";
import type { Random } from "../protocol/random.ts";
import type { SiteCrowd } from "../protocol/site-budget.ts";
import { openHttpOrigin } from "./http-origins.ts";
import type { Log } from "./log.ts";
import { FolderSource } from "./origins/folder-source.ts";
import { LimitedOrigin } from "./origins/with-budget.ts";
import { HealthyOrigin } from "./origins/with-health.ts";
import { RetryingOrigin } from "./origins/with-retry.ts";
import { SingleFlightOrigin } from "./origins/with-single-flight.ts";
import type { Clock, Origin } from "./ports.ts";
import type { OriginSettings, Settings } from "./settings/schema.ts";

/** What `node status` says of an origin; `reason` where it is unsteady or down. */
export interface OriginStatus {
  readonly name: string;
  readonly state: "untried" | "ok" | "unsteady" | "down" | "never";
  readonly reason?: string;
}

export interface OriginParts {
  readonly network: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Who shares the budgets of limited origins; this node alone unless it is given. */
  readonly crowd?: () => SiteCrowd;
}

/** The origins of the settings that may be asked, in their order, and how each does. */
export class OriginSet implements AsyncDisposable {
  /** Each asks again by itself, asks once for what several want, and is left alone while it is down. */
  readonly origins: readonly Origin[];
  /** The same, each within its budget, also where the configuration does not ask for that. */
  readonly limited: readonly Origin[];
  readonly #budgets: readonly LimitedOrigin[];
  readonly #settings: Settings;
  readonly #healths: ReadonlyMap<string, HealthyOrigin>;
  readonly #opened: AsyncDisposableStack;

  private constructor(
    settings: Settings,
    healths: ReadonlyMap<string, HealthyOrigin>,
    budgets: readonly LimitedOrigin[],
    opened: AsyncDisposableStack,
  ) {
    this.#settings = settings;
    this.#healths = healths;
    this.#budgets = budgets;
    this.#opened = opened;
    const isLimited = new Set(settings.origins.filter(({ policy }) => policy === "limited").map(({ name }) => name));
    this.limited = budgets;
    this.origins = budgets.map((origin) => (isLimited.has(origin.name) ? origin : healths.get(origin.name)!));
  }

  /**
   * Opens all that may be asked. One that cannot be reached now is opened all the same.
   * @throws {UsageError} {VersionError} for a folder of another network or a newer format, or certificates that cannot be
   * read.
   */
  static async open(settings: Settings, parts: OriginParts): Promise<OriginSet> {
    await using opened = new AsyncDisposableStack();
    const asked = settings.origins.filter(({ policy }) => policy !== "never");
    const origins = await Promise.all(
      asked.map(async (origin) => {
        const bare = await openOrigin(origin, settings.repositories, parts);
        if (Symbol.asyncDispose in bare) opened.use(bare as Origin & AsyncDisposable);
        return new SingleFlightOrigin(new RetryingOrigin(bare, parts.random));
      }),
    );
    const healths = new Map<string, HealthyOrigin>();
    for (const origin of origins) {
      const hasOther = () => [...healths.values()].some(({ name, state }) => name !== origin.name && state !== "down");
      const onState = ({ name, state, reason }: HealthyOrigin) => {
        if (state === "untried") return;
        parts.log(state === "ok" ? "info" : "warn", `origin-${state}`, { origin: name, ...(reason && { reason }) });
      };
      healths.set(origin.name, new HealthyOrigin(origin, parts.clock, hasOther, onState));
    }
    const budgets = asked.map((origin) => limitedOrigin(origin, healths.get(origin.name)!, parts));
    return new OriginSet(settings, healths, budgets, opened.move());
  }

  status(): OriginStatus[] {
    return this.#settings.origins.map(({ name }) => {
      const health = this.#healths.get(name);
      const { state, reason } = health ?? { state: "never" as const, reason: undefined };
      return { name, state, ...(reason === undefined ? {} : { reason }) };
    });
  }

  /** An error as people should read it: with what is wrong with the origins where a deadline passed for that. */
  async explained(error: unknown): Promise<unknown> {
    if (!(error instanceof DeadlineError)) return error;
    await nextTurn(); // What the deadline has aborted says how long it had waited.
    const reasons = [
      ...[...this.#healths.values()].flatMap(({ reason }) => reason ?? []),
      ...this.#budgets.flatMap(({ refusal }) => refusal ?? []),
    ];
    if (reasons.length === 0) return error;
    const { hint, details, cause } = error;
    return new DeadlineError(`${error.message}: ${reasons.join("; ")}`, {
      cause,
      ...(hint === undefined ? {} : { hint }),
      ...(details === undefined ? {} : { details }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }
}

function limitedOrigin(
  { slots, rateBytesPerSecond }: OriginSettings,
  inner: Origin,
  { clock, random, crowd = () => alone }: OriginParts,
): LimitedOrigin {
  const unlimited = Number.POSITIVE_INFINITY;
  const bytesPerMs = rateBytesPerSecond === undefined ? unlimited : rateBytesPerSecond / 1000;
  return new LimitedOrigin(inner, { budget: { slots: slots ?? unlimited, bytesPerMs }, clock, random, crowd });
}

const alone: SiteCrowd = { self: "", members: [] };

/** One origin, without what it is wrapped in. @throws what `OriginSet.open` throws. */
export async function openOrigin(
  origin: OriginSettings,
  repositories: ReadonlyMap<string, string>,
  { network, clock, log }: Omit<OriginParts, "random">,
): Promise<Origin> {
  const { name } = origin;
  switch (origin.kind) {
    case "folder": {
      const onAbandoned = (reason: string) => log("warn", "origin-silent", { origin: name, reason });
      const inPlace = origin.inPlace ? { inPlace: repositories } : {};
      return await FolderSource.open({ name, path: origin.path, network, onAbandoned, ...inPlace });
    }
    case "http":
      return await openHttpOrigin(origin, { network, clock });
  }
}
