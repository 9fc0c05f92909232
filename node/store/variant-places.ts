import { existsSync } from "node:fs";
import { UsageError } from "../../protocol/errors.ts";
import { type RezHandle, rezHandle } from "../../protocol/rez-handle.ts";
import type { Variant } from "../../protocol/variant.ts";
import type { CatalogueEntry } from "./catalogue.ts";
import { pathOf } from "./holdings.ts";
import { isEntry } from "./recovery.ts";
import type { Found, RezCache } from "./rez-cache.ts";

/** Where variants lie in Rez's cache, by where this machine mounts their repositories. */
export class VariantPlaces {
  readonly #rez: RezCache;
  readonly #repositories: ReadonlyMap<string, string>;

  constructor(rez: RezCache, repositories: ReadonlyMap<string, string>) {
    this.#rez = rez;
    this.#repositories = repositories;
  }

  /** Rez's handle of a variant on this machine; undefined where its repository is not configured. */
  handleOf(variant: Variant): RezHandle | undefined {
    const location = this.#repositories.get(variant.repository);
    return location === undefined ? undefined : rezHandle(variant, location);
  }

  /** The same of a variant that is on its way in. @throws {UsageError} when a reload took its repository away meanwhile. */
  handleFor(variant: Variant): RezHandle {
    const handle = this.handleOf(variant);
    if (handle !== undefined) return handle;
    throw new UsageError(`the repository ${variant.repository} is not configured any more`, {
      code: "REPOSITORY_NOT_CONFIGURED",
      hint: `set repositories.${variant.repository} to where this machine mounts it`,
    });
  }

  /** What lies at a variant's place; undefined where that is nothing, or ours. */
  foreign(variant: Variant): Found | undefined {
    const handle = this.handleOf(variant);
    const found = handle === undefined ? undefined : this.#rez.locate(handle);
    return found === undefined || found.kind === "absent" || found.ours ? undefined : found;
  }

  /** Whether Rez would find the tree; where the repository is not configured any more, whether it is there. */
  isThere(entry: CatalogueEntry): boolean {
    const handle = this.handleOf(entry.variant);
    if (handle === undefined) return existsSync(pathOf(entry));
    const found = this.#rez.locate(handle);
    return found.kind !== "absent" && isEntry(found, entry);
  }
}
