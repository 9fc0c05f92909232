import { systemClock } from "../../node/clock.ts";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import type { Join, JoinListener, StagedTree, Swarm } from "../../node/ports.ts";
import { MemoryPayloadStore } from "../../node/store/memory-payload-store.ts";
import { TransferDrive, type TransferParts } from "../../node/transfer-drive.ts";
import type { Bitmap } from "../../protocol/bitmap.ts";
import { Directory } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import { seededRandom } from "../../protocol/random.ts";
import { decodeEnvelope, decodeRelease } from "../../protocol/record.ts";
import type { SeenMember } from "../../protocol/registrars.ts";
import { Standing } from "../../protocol/standing.ts";
import { limits, publishSample } from "./fetch-world.ts";
import { engine } from "./payloads.ts";

/** An origin with one release in it. */
export const repository = new MemoryRepository("filer");
const { variant } = await publishSample(repository);
const envelope = repository.records.get(variant)![0]!;
const record = decodeRelease(decodeEnvelope(envelope).body, engine.hash);

/** One join at a peer, as the test sees it: what it is asked, and how it answers. */
interface Asked {
  readonly peer: string;
  readonly listener: JoinListener;
  readonly requests: number[];
  readonly cancelled: number[];
  answer(have: Bitmap | "all" | undefined): void;
  refuse(): void;
  left: number;
}

/** A swarm whose peers do what the test says, when it says it. */
class ScriptedSwarm implements Swarm {
  readonly id = "own";
  readonly directory: Directory = new Directory({ hash: engine.hash, random: Math.random });
  readonly joins: Asked[] = [];
  readonly told: number[] = [];
  here: string[] = [];
  /** What happens when a peer is asked; nothing, unless the test says so. */
  onJoin: (asked: Asked) => void = () => undefined;
  /** What happens when items are requested. */
  onRequest: (asked: Asked, items: readonly number[]) => void = () => undefined;

  join(peer: string, _payload: unknown, _items: number, listener: JoinListener): Promise<Join | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<Join | undefined>();
    const asked: Asked = {
      peer,
      listener,
      requests: [],
      cancelled: [],
      left: 0,
      answer: (have) => {
        if (have === undefined) return resolve(undefined);
        resolve({
          have,
          request: (items) => {
            asked.requests.push(...items);
            this.onRequest(asked, items);
          },
          cancel: (items) => void asked.cancelled.push(...items),
          leave: () => void asked.left++,
        });
      },
      refuse: () => reject(new UnreachableError("the peer has gone")),
    };
    this.joins.push(asked);
    this.onJoin(asked);
    return promise;
  }

  peers() {
    return this.here.map((peer) => ({ peer, name: peer, site: "", rack: "", addresses: [] }));
  }
  stored(_payload: unknown, items: readonly number[]): void {
    this.told.push(...items);
  }
  addresses(): readonly string[] {
    return [];
  }
  settled(): Promise<void> {
    return Promise.resolve();
  }
  discovery(): undefined {
    return undefined;
  }

  take(peer: string, payload: unknown, items: number, listener: JoinListener): Join {
    let join: Join | undefined;
    let asked: number[] = [];
    let hasLeft = false;
    void this.join(peer, payload, items, listener).then(
      (answered) => {
        if (answered === undefined) return listener.gone([]);
        join = answered;
        if (hasLeft) return join.leave();
        if (asked.length > 0) join.request(asked);
      },
      () => listener.ended(),
    );
    return {
      have: "all",
      request: (items) => (join === undefined ? void asked.push(...items) : join.request(items)),
      cancel: (items) => {
        asked = asked.filter((item) => !items.includes(item));
        join?.cancel(items);
      },
      leave: () => {
        hasLeft = true;
        join?.leave();
      },
    };
  }
  async register(): Promise<never> {
    throw new UnreachableError("no test registers anything");
  }
  members(): Iterable<SeenMember> {
    return [];
  }

  announce(): void {}
  part(): void {}
  setRates(): void {}
  async record(): Promise<undefined> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

export interface DriveScene {
  readonly target: StagedTree;
  readonly swarm: ScriptedSwarm;
  readonly standing: Standing;
  readonly stop: AbortController;
  readonly drive: (more?: Partial<TransferParts>) => TransferDrive;
  /** The right bytes of an item, once the payload was described. */
  readonly bytesOf: (item: number) => Uint8Array<ArrayBuffer>;
  /** Gives what it is asked for, rightly. */
  readonly give: (asked: Asked, items: readonly number[]) => void;
  /** Puts that have begun and not ended, and items that were put twice at a time. */
  readonly puts: { open: number; clashes: number; hold: Promise<void> | undefined };
}

/** A payload on its way into a store in memory, of which nothing is there yet. */
export async function openDriveScene(): Promise<DriveScene> {
  const store = new MemoryPayloadStore({ hasher: engine.hash, repositories: new Map([["studio", "/studio"]]) });
  return sceneOf(await store.stage(variant, record, envelope));
}

function sceneOf(target: StagedTree): DriveScene {
  const swarm = new ScriptedSwarm();
  const standing = new Standing();
  const stop = new AbortController();
  const puts: DriveScene["puts"] = { open: 0, clashes: 0, hold: undefined };
  const putting = new Set<number>();
  const put = target.put.bind(target);
  target.put = async (item, bytes) => {
    if (putting.has(item)) puts.clashes++;
    putting.add(item);
    puts.open++;
    try {
      await puts.hold;
      await put(item, bytes);
    } finally {
      puts.open--;
      putting.delete(item);
    }
  };
  const bytesOf = (item: number) => new Uint8Array(repository.chunks.get(target.hashOf(item))!);
  const parts = {
    target,
    swarm,
    origins: [],
    standing,
    clock: systemClock,
    random: seededRandom(1),
    signal: stop.signal,
    what: "foo",
    onProgress: () => undefined,
    limits,
  };
  return {
    target,
    swarm,
    standing,
    stop,
    puts,
    bytesOf,
    drive: (more = {}) => new TransferDrive({ ...parts, ...more }),
    give: (asked, items) => {
      for (const item of items) asked.listener.piece(item, bytesOf(item));
    },
  };
}
