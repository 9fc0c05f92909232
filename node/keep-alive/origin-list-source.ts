import type { KeepAliveSource, Origin, WaitOptions } from "../ports.ts";

/** Where a toolset's signed list lies among the files of an origin's policy. */
export function keepListName(toolset: string): string {
  return `targets/keepalive/${toolset}.dsse.json`;
}

/** The lists at an origin. */
export class OriginListSource implements KeepAliveSource {
  readonly #origin: Origin;

  constructor(origin: Origin) {
    this.#origin = origin;
  }

  get name(): string {
    return this.#origin.name;
  }

  async list(toolset: string, options?: WaitOptions): Promise<Uint8Array | undefined> {
    return await this.#origin.policyFile?.(keepListName(toolset), options);
  }
}
