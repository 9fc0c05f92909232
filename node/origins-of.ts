import type { Random } from "../protocol/random.ts";
import type { Log } from "./log.ts";
import { readAuthorities } from "./origin-files.ts";
import { FolderSource } from "./origins/folder-source.ts";
import { HttpOrigin } from "./origins/http-origin.ts";
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
}

/** The origins of the settings that may be asked, in their order, and how each does. */
export class OriginSet implements AsyncDisposable {
  /** Each asks again by itself, asks once for what several want, and is left alone while it is down. */
  readonly origins: readonly Origin[];
  readonly #settings: Settings;
  readonly #healths: ReadonlyMap<string, HealthyOrigin>;
  readonly #opened: AsyncDisposableStack;

  private constructor(settings: Settings, healths: ReadonlyMap<string, HealthyOrigin>, opened: AsyncDisposableStack) {
    this.#settings = settings;
    this.#healths = healths;
    this.#opened = opened;
    this.origins = [...healths.values()];
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
      const onState = ({ name, state, reason }: HealthyOrigin) =>
        parts.log(state === "ok" ? "info" : "warn", `origin-${state}`, { origin: name, ...(reason && { reason }) });
      healths.set(origin.name, new HealthyOrigin(origin, parts.clock, hasOther, onState));
    }
    return new OriginSet(settings, healths, opened.move());
  }

  status(): OriginStatus[] {
    return this.#settings.origins.map(({ name }) => {
      const health = this.#healths.get(name);
      const { state, reason } = health ?? { state: "never" as const, reason: undefined };
      return { name, state, ...(reason === undefined ? {} : { reason }) };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }
}

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
    case "http": {
      const { url, caFile, credentialsFile } = origin;
      const authorities = caFile === undefined ? undefined : await readAuthorities(caFile);
      return new HttpOrigin({ name, url, network, authorities, credentialsFile, clock });
    }
  }
}
