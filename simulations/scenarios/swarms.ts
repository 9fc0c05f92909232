import { MIB } from "../../protocol/limits.ts";
import { seededRandom } from "../../protocol/random.ts";
import { type Counts, figuresOf, type SwarmFigures } from "../swarm-report.ts";
import type { MemberPlan, Policies, SwarmWorld, WorldPlan } from "../swarm-world.ts";
import { virtualPayload } from "../virtual-payload.ts";

/** What may be said of a run; the payload's size only for short ones. */
export interface SwarmOptions {
  readonly nodes: number;
  readonly seed: number;
  readonly mebibytes?: number;
  readonly policies?: Policies;
}

/** A crowd of members, something that goes wrong, and what is counted. */
export interface SwarmScenario {
  readonly plan: (options: SwarmOptions) => WorldPlan;
  /** Whose times count; everybody's, if it is not said. */
  readonly counts?: (world: SwarmWorld) => Counts;
  /** What the efficiency is of; 1 Gbit/s, if it is not said. */
  readonly rateBytesPerMs?: number;
  /** What else is of interest. */
  readonly more?: (world: SwarmWorld) => Readonly<Record<string, number | string>>;
}

/** 1 Gbit/s, in bytes a millisecond. */
const gigabit = 125_000;

/** The standard case: 1 GiB in 1,024 items, equal links of 1 Gbit/s, 0.5 ms, everybody within a second. */
function standard({ nodes, seed, mebibytes = 1024, policies }: SwarmOptions): WorldPlan {
  const random = seededRandom(seed);
  return {
    seed,
    payloads: [virtualPayload(0, mebibytes * MIB, mebibytes)],
    members: Array.from({ length: nodes }, () => member(random() * 1000)),
    origin: { upBytesPerMs: gigabit, site: 0 },
    latencyMs: 0.5,
    untilMs: 300_000,
    ...(policies === undefined ? {} : { policies }),
  };
}

function member(startMs: number, wants: readonly number[] = [0]): MemberPlan {
  return { startMs, wants, upBytesPerMs: gigabit, downBytesPerMs: gigabit };
}

/** Something happens again and again. */
function every(gapMs: number, untilMs: number, run: (world: SwarmWorld, turn: number) => void): WorldPlan["script"] {
  const turns = Math.floor(untilMs / gapMs);
  return Array.from({ length: turns }, (_, turn) => ({
    atMs: (turn + 1) * gapMs,
    run: (world: SwarmWorld) => run(world, turn),
  }));
}

/** Of a hundred members five leave and five come every minute, and five have a tenth of the others' rate. */
const churn: SwarmScenario = {
  plan: (options) => {
    const plan = standard(options);
    const members = plan.members.map((one, at) => (at % 20 === 7 ? slow(one) : one));
    const gapMs = 60_000 / (0.05 * options.nodes);
    const swap = (world: SwarmWorld) => {
      const up = world.members.filter(({ isUp }) => isUp);
      world.takeDown(up[world.roll(up.length)]!, noticedMs);
      world.add({ ...member(world.nowMs), upAtMs: world.nowMs });
    };
    return { ...plan, members, script: every(gapMs, 60_000, swap) ?? [] };
  },
  counts: (world) => (number) => world.member(number).host.downBytesPerMs === gigabit,
};

function slow(one: MemberPlan): MemberPlan {
  return { ...one, upBytesPerMs: gigabit / 10, downBytesPerMs: gigabit / 10 };
}

/** An origin that is ten times as fast as a node, or three times as slow. */
const fastOrigin: SwarmScenario = {
  plan: (options) => ({ ...standard(options), origin: { upBytesPerMs: 10 * gigabit, site: 0 } }),
};
const slowOrigin: SwarmScenario = {
  plan: (options) => ({ ...standard(options), origin: { upBytesPerMs: gigabit / 3, site: 0 } }),
};

/** Everybody, and the origin, has 100 Mbit/s; an eighth of the payload. */
const slowLinks: SwarmScenario = {
  plan: ({ mebibytes = 1024, ...options }) => {
    const plan = standard({ ...options, mebibytes: Math.ceil(mebibytes / 8) });
    return { ...plan, members: plan.members.map(slow), origin: { upBytesPerMs: gigabit / 10, site: 0 } };
  },
  rateBytesPerMs: gigabit / 10,
};

/**
 * Half of the members have just been switched on, the first registrar dies in the middle of the rush, and everybody hears
 * of who has come or gone up to 5 s late.
 */
const laggingViews: SwarmScenario = {
  plan: (options) => {
    const plan = standard(options);
    const members = plan.members.map((one, at) => (at % 2 === 0 ? one : { ...one, upAtMs: one.startMs - 500 }));
    const kill = (world: SwarmWorld) => {
      const [first] = world.registrarsFor(world.members.find(({ isUp }) => isUp)!, world.payloads[0]!);
      world.takeDown(world.member(world.numberOf(first!)), noticedMs);
    };
    const script = [{ atMs: 400, run: kill }];
    return { ...plan, members, script, lagMs: (of, at) => (of === at ? 0 : 5_000 * lagOf(of, at)) };
  },
};

/** A number in `[0, 1)` for a pair, always the same. */
function lagOf(one: number, other: number): number {
  return seededRandom(one * 10_007 + other)();
}

/** Two subnets with a trunk between them that is as thin as one node's link; the second half starts 5 s later. */
const subnets: SwarmScenario = {
  plan: (options) => {
    const plan = standard(options);
    const half = Math.ceil(options.nodes / 2);
    const members = plan.members.map((one, at) => {
      return at < half ? one : { ...one, startMs: one.startMs + 5_000, traits: { site: 1 } };
    });
    return { ...plan, members, trunkBytesPerMs: gigabit };
  },
  more: (world) => {
    const slowest = (site: number) =>
      Math.max(...world.members.filter(({ traits }) => traits.site === site).map((one) => secondsOf(one.fetches[0])));
    return {
      laterToEarlier: round(slowest(1) / slowest(0)),
      trunkCopies: round(world.network.trunkBytes / world.payloads[0]!.bytes),
    };
  },
};

function secondsOf(fetch: SwarmWorld["members"][number]["fetches"][number]): number {
  const { startedMs = 0, endedMs = Number.POSITIVE_INFINITY } = fetch?.outcome ?? {};
  return (endedMs - startedMs) / 1000;
}

/** 40 variants of which 37 are small, as large together as the one of the standard case. */
const manySmall: SwarmScenario = {
  plan: (options) => {
    const { mebibytes = 1024 } = options;
    const large = Math.floor((mebibytes - 37) / 3);
    const payloads = Array.from({ length: 40 }, (_, at) => {
      return at % 13 === 5 ? virtualPayload(at, large * MIB, large) : virtualPayload(at, MIB, 3);
    });
    const wants = payloads.map(({ number }) => number);
    const plan = standard(options);
    return { ...plan, payloads, members: plan.members.map(({ startMs }) => member(startMs, wants)) };
  },
  more: (world) => {
    const spans = world.members.map(({ fetches }) => {
      const ends = fetches.map((fetch) => fetch?.outcome.endedMs ?? Number.POSITIVE_INFINITY);
      return Math.max(...ends) - Math.min(...fetches.map((fetch) => fetch!.outcome.startedMs));
    });
    return { lastVariantSeconds: round(Math.max(...spans) / 1000) };
  },
};

/** The origin goes as soon as everything is in the swarm once: half-way, since it is twice as fast as a node. */
const originDies: SwarmScenario = {
  plan: (options) => ({
    ...standard(options),
    origin: { upBytesPerMs: 2 * gigabit, site: 0 },
    script:
      every(10, 20_000, (world) => {
        if (world.isOriginUp && isAllInSwarm(world)) world.stopOrigin();
      }) ?? [],
  }),
};

function isAllInSwarm(world: SwarmWorld): boolean {
  const [payload] = world.payloads;
  if (world.originReadBytes < payload!.bytes) return false;
  for (let item = 0; item < payload!.items; item++) {
    if (!world.members.some(({ fetches, isUp }) => isUp && fetches[0]?.have.has(item))) return false;
  }
  return true;
}

/** The origin goes while items are missing, for good, or for 8 s. */
const originLost: SwarmScenario = {
  plan: (options) => ({ ...standard(options), script: [{ atMs: 4_000, run: (world) => world.stopOrigin() }] }),
  more: endsOf,
};
const originReturns: SwarmScenario = {
  plan: (options) => ({
    ...standard(options),
    script: [
      { atMs: 4_000, run: (world) => world.stopOrigin() },
      { atMs: 12_000, run: (world) => world.startOrigin() },
    ],
  }),
  more: endsOf,
};

/** How fetches ended that did not end well, and which item they named. */
function endsOf(world: SwarmWorld): Readonly<Record<string, number | string>> {
  const fetches = world.members.flatMap(({ fetches }) => fetches);
  const failed = fetches.filter((fetch) => fetch?.outcome.fault !== undefined);
  const named = failed.filter((fetch) => {
    const item = fetch!.outcome.missingItem;
    return item !== undefined && !fetch!.have.has(item);
  });
  const last = Math.max(0, ...failed.map((fetch) => secondsOf(fetch)));
  const faults = [...new Set(failed.map((fetch) => fetch!.outcome.fault!))].join(" ");
  return { failed: failed.length, namedItem: named.length, faults, lastEndSeconds: round(last) };
}

/** Of twenty members one sends wrong bytes and one takes requests, questions and leases and does nothing about them. */
const hostile: SwarmScenario = {
  plan: (options) => {
    const plan = standard(options);
    const members = plan.members.map((one, at) => {
      if (at % 20 === 3) return { ...one, traits: { isCorrupt: true } };
      return at % 20 === 13 ? { ...one, traits: { isIdle: true } } : one;
    });
    return { ...plan, members };
  },
  counts: isHonest,
  more: (world) => {
    const { length } = world.members.filter(({ number }) => isHonest(world)(number, 0));
    const bytes = world.members.reduce((sum, { number, fetches }) => {
      return sum + (isHonest(world)(number, 0) ? (fetches[0]?.outcome.originBytes ?? 0) : 0);
    }, 0);
    return { honest: length, honestOriginCopies: round(bytes / world.payloads[0]!.bytes) };
  },
};

function isHonest(world: SwarmWorld): Counts {
  return (number) => {
    const { isCorrupt, isIdle } = world.member(number).traits;
    return !isCorrupt && !isIdle;
  };
}

/** No registrar answers: everybody takes turns by rank. */
const noRegistrar: SwarmScenario = {
  plan: (options) => ({ ...standard(options), hasRegistrars: false }),
};

/** Nine of ten never read the origin. */
const mostlyNever: SwarmScenario = {
  plan: (options) => {
    const plan = standard(options);
    const members = plan.members.map((one, at) => (at % 10 === 0 ? one : { ...one, policy: "never" as const }));
    return { ...plan, members };
  },
};

const morningRush: SwarmScenario = { plan: standard };

export const swarmScenarios: Readonly<Record<string, SwarmScenario>> = {
  "morning-rush": morningRush,
  churn,
  "fast-origin": fastOrigin,
  "slow-origin": slowOrigin,
  "slow-links": slowLinks,
  "lagging-views": laggingViews,
  subnets,
  "many-small": manySmall,
  "origin-dies": originDies,
  "origin-lost": originLost,
  "origin-returns": originReturns,
  hostile,
  "no-registrar": noRegistrar,
  "mostly-never": mostlyNever,
};

/** The figures of a world that has ended. */
export function swarmFigures(scenario: SwarmScenario, world: SwarmWorld): SwarmFigures {
  const figures = figuresOf(world, scenario.rateBytesPerMs ?? gigabit, scenario.counts?.(world));
  return { ...figures, ...scenario.more?.(world) };
}

/** A peer that goes is missed when its connection has been silent for a second. */
const noticedMs = 1_000;

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
