import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import { type Published, publishVariant } from "../../node/payloads/publisher.ts";
import type { Origin } from "../../node/ports.ts";
import { defaultAttributes } from "../../protocol/record.ts";
import { defaultTransferLimits } from "../../protocol/transfer-limits.ts";
import { FetchWorld, type NodeOptions, type TestNode, WatchedOrigin } from "./fetch-world.ts";
import { noise } from "./noise.ts";
import { engine, variantOf } from "./payloads.ts";

/** A payload of three groups at an origin that takes its time, and nodes that know each other. */
export class CrowdWorld {
  readonly repository: MemoryRepository = new MemoryRepository("filer");
  readonly world: FetchWorld = new FetchWorld();
  readonly origins: WatchedOrigin[] = [];
  published!: Published;

  static async open(mebibytes = 20): Promise<CrowdWorld> {
    const scene = new CrowdWorld();
    const directory = mkdtempSync(join(tmpdir(), "crowd-world-"));
    const treePath = join(directory, "tree");
    try {
      process.umask(0o022);
      mkdirSync(join(treePath, "lib"), { recursive: true });
      for (let file = 0; file < mebibytes / 4; file++) {
        writeFileSync(join(treePath, "lib", `${file}.bin`), noise(file + 1, 4 << 20));
      }
      scene.published = await publishVariant({
        ...{ variant: variantOf("foo"), treePath, engine, repository: scene.repository },
        sign: { keyid: "aa".repeat(32), sign: (message) => engine.hash(message) },
        attributes: defaultAttributes,
        now: "2026-07-01T08:00:00Z",
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
    return scene;
  }

  /** An origin of one node, of its own for what it does; it reads what they all read. */
  origin(): WatchedOrigin {
    const origin = new WatchedOrigin(this.repository);
    origin.before = (what) => (what === "chunk" ? sleep(itemMs) : undefined);
    this.origins.push(origin);
    return origin;
  }

  node(name: string, origin: Origin | undefined = this.origin(), options: NodeOptions = {}): TestNode {
    const origins = origin === undefined ? [] : [origin];
    const transfers = { limits: defaultTransferLimits, ...options.transfers };
    return this.world.node(name, { timeoutMs: 60_000, ...options, origins, transfers });
  }

  nodes(count: number): TestNode[] {
    return Array.from({ length: count }, (_, i) => this.node(`n${i}`));
  }
}

/** How long an origin takes over an item. */
const itemMs = 10;
