import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type EvictionInput,
  explainHeld,
  type HeldFacts,
  type PlanLine,
  planEviction,
} from "../../protocol/eviction.ts";
import { compareNamings, type Naming } from "../../protocol/keep-index.ts";
import { evictionInodesMin } from "../../protocol/limits.ts";
import { goneOf, heldNumber, naming, nowMs } from "../support/eviction-cases.ts";

const dayMs = 86_400_000;
const namings = fc.option(
  fc
    .record({ toolset: fc.constantFrom("fx", "anim"), rank: fc.integer({ min: 1, max: 9 }), old: fc.boolean() })
    .map(({ toolset, rank, old }) => naming(toolset, rank, { isExpired: old && rank > 6 })),
  { nil: undefined, freq: 2 },
);
const holds = fc.constantFrom(
  undefined,
  undefined,
  undefined,
  undefined,
  { kind: "pinned" } as const,
  { kind: "leased", by: "pid 1" } as const,
  { kind: "busy" } as const,
);
const facts = fc.record({
  bytes: fc.integer({ min: 1, max: 100 }),
  replicas: fc.integer({ min: 0, max: 6 }),
  lastUsedMs: fc.option(
    fc.integer({ min: 0, max: 90 }).map((days) => nowMs - days * dayMs),
    { nil: undefined },
  ),
  naming: namings,
  hold: holds,
});
const helds = fc.array(facts, { maxLength: 14 }).map((all) => all.map((each, i) => heldNumber(i + 1, each)));
const goals = fc.oneof(
  fc.record({ kind: fc.constant("tidy" as const), toLow: fc.boolean() }),
  fc.record({
    kind: fc.constant("room" as const),
    bytes: fc.integer({ min: 0, max: 200 }),
    diskBytes: fc.integer({ min: 0, max: 200 }),
    inodes: fc.integer({ min: 0, max: 20 }),
    variants: fc.constantFrom(0 as const, 1 as const),
    naming: namings,
  }),
);
const inputs: fc.Arbitrary<EvictionInput> = fc
  .record({
    held: helds,
    goal: goals,
    limits: fc.record({
      maxBytes: fc.integer({ min: 0, max: 900 }),
      maxVariants: fc.option(fc.integer({ min: 0, max: 14 }), { nil: undefined, freq: 1 }),
      maxAgeMs: fc.option(
        fc.integer({ min: 1, max: 80 }).map((days) => days * dayMs),
        { nil: undefined },
      ),
      freeBytesMin: fc.integer({ min: 0, max: 300 }),
      pinnedBytesMax: fc.integer({ min: 0, max: 900 }),
      minIdleMs: fc.constantFrom(0, dayMs, 20 * dayMs),
    }),
    otherBytes: fc.integer({ min: 0, max: 50 }),
    freeBytes: fc.integer({ min: 0, max: 600 }),
    freeInodes: fc.option(fc.integer({ min: evictionInodesMin - 30, max: evictionInodesMin + 60 }), { nil: undefined }),
  })
  .map(({ otherBytes, freeBytes, freeInodes, ...rest }) => {
    const usedBytes = rest.held.reduce((sum, { bytes }) => sum + bytes, otherBytes);
    return { ...rest, fullness: { usedBytes, freeBytes, freeInodes, comingVariants: 0 }, wallMs: nowMs };
  });

test("every variant has one line, and a plan does not depend on the order in which it is told of them", () => {
  check((input) => {
    const plan = planEviction(input);
    assert.equal(numbers(plan.lines.map(({ held }) => held)), numbers(input.held));
    assert.equal(planEviction({ ...input, held: [...input.held].reverse() }), plan);
  });
});

test("what is leased, pinned, being fetched or was used within min_idle never goes (P5)", () => {
  check((input) => {
    for (const { held } of goers(input)) assert.not(isProtected(held, input), `${held.files}`);
  });
});

test("what a list in force names never goes for a lesser one (P5)", () => {
  check((input) => {
    const { lines } = planEviction(input);
    const { goal } = input;
    for (const { held } of lines.filter(({ goes, reason }) => goes && reason.kind === "listed")) {
      // All that is lesser has gone before it: what no list names, and what lists have no force for.
      for (const other of lines) {
        if (other.goes || isProtected(other.held, input)) continue;
        assert.ok(isListed(other.held), `${other.held.files} stays, ${held.files} goes`);
        const isLastCopy = other.held.replicas === 0 && held.replicas > 0;
        const isLesser = compareNamings(other.held.naming!, held.naming!) > 0;
        assert.not(
          isLesser && !isLastCopy && other.held.replicas > 0,
          `${other.held.files} is lesser than ${held.files}`,
        );
      }
      if (goal.kind === "room") assert.ok(compareNamings(held.naming!, goal.naming!) > 0);
    }
  });
});

test("the last copy of what a list names goes only once all has gone that may", () => {
  check((input) => {
    if (input.goal.kind === "room") return;
    const { lines } = planEviction(input);
    if (!lines.some(({ held, goes }) => goes && isListed(held) && held.replicas === 0)) return;
    for (const { held, goes } of lines) {
      if (goes || isProtected(held, input)) continue;
      assert.ok(isListed(held) && held.replicas === 0, `${held.files} stays`);
    }
  });
});

test("a plan keeps every limit, or says what is missing, and then all has gone that may or, for room, nothing", () => {
  check((input) => {
    const plan = planEviction(input);
    const left = shortAfter(
      input,
      plan.lines.filter(({ goes }) => goes).map(({ held }) => held),
    );
    const isEnough = left.every((amount) => amount <= 0);
    assert.is(plan.missing === undefined, plan.missing === undefined ? isEnough : false);
    if (plan.missing === undefined) return;
    if (input.goal.kind === "room") assert.equal(goneOf(plan), []);
    else
      for (const { held, goes } of plan.lines)
        assert.ok(goes || isProtected(held, input) || !isUseful(held, plan.missing));
  });
});

test("nothing goes that need not: without the last that goes, something would be missing", () => {
  check((input) => {
    const gone = goers(input).filter(({ reason }) => reason.kind !== "aged");
    if (gone.length === 0) return;
    const aged = goers(input).filter(({ reason }) => reason.kind === "aged");
    const without = [...aged, ...gone.slice(0, -1)].map(({ held }) => held);
    const short = shortAfter(input, without, { toLow: true });
    assert.ok(short.some((amount) => amount > 0));
  });
});

test("where nothing is short, a variant is explained without a plan as the plan would", () => {
  let told = 0;
  check((input) => {
    const tidy: EvictionInput = { ...input, goal: { kind: "tidy", toLow: false } };
    for (const line of planEviction(tidy).lines) {
      const others = tidy.held.map((each) => ({ ...each, lastUsedMs: undefined, replicas: 0 }));
      const alone = explainHeld(line.held, { ...tidy, held: others });
      if (alone === undefined) continue;
      told++;
      assert.equal(alone, line);
    }
  });
  assert.ok(told > 100);
});

test("where something is short, a variant is explained as by the plan, once that has told whether it goes", () => {
  check((input) => {
    const tidy: EvictionInput = { ...input, goal: { kind: "tidy", toLow: false } };
    for (const line of planEviction(tidy).lines) {
      const others = tidy.held.map((each) => ({ ...each, lastUsedMs: undefined, replicas: 0 }));
      assert.equal(explainHeld(line.held, { ...tidy, held: others }, line.goes), line);
      // What must not be touched by now stays, whatever an older plan said.
      const leased = { ...line.held, hold: { kind: "leased", by: "sh" } } as const;
      assert.is(explainHeld(leased, { ...tidy, held: others }, true)!.goes, false);
    }
  });
});

test("what goes by age alone is unlisted and older than max_age", () => {
  check((input) => {
    for (const { held, reason } of goers(input)) {
      if (reason.kind !== "aged") continue;
      assert.is(held.naming, undefined);
      assert.ok(input.wallMs - (held.lastUsedMs ?? 0) > input.limits.maxAgeMs!);
    }
  });
});

test("lists keep no more than pinned_bytes_max against what nobody named", () => {
  check((input) => {
    const kept = planEviction({ ...input, goal: { kind: "tidy", toLow: false } }).lines;
    const inForce = kept
      .filter(({ reason }) => reason.kind === "listed")
      .reduce((sum, { held }) => sum + held.bytes, 0);
    const pinned = kept
      .filter(({ held }) => held.hold?.kind === "pinned")
      .reduce((sum, { held }) => sum + held.bytes, 0);
    if (inForce > 0) assert.ok(inForce + pinned <= input.limits.pinnedBytesMax);
  });
});

function check(property: (input: EvictionInput) => void): void {
  fc.assert(fc.property(inputs, property), { numRuns: 2000 });
}

function goers(input: EvictionInput): PlanLine[] {
  return planEviction(input).lines.filter(({ goes }) => goes);
}

function isProtected({ hold, lastUsedMs }: HeldFacts, { limits, wallMs }: EvictionInput): boolean {
  return hold !== undefined || (lastUsedMs !== undefined && wallMs - lastUsedMs < limits.minIdleMs);
}

function isListed({ naming: named }: { readonly naming: Naming | undefined }): boolean {
  return named?.isExpired === false;
}

/** Counted anew: how far each limit is passed once these have gone. */
function shortAfter(
  { held, limits, fullness, goal }: EvictionInput,
  gone: readonly HeldFacts[],
  { toLow = false } = {},
): number[] {
  const freed = gone.reduce((sum, { bytes }) => sum + bytes, 0);
  const need = goal.kind === "room" ? goal : { bytes: 0, diskBytes: 0, inodes: 0, variants: 0 };
  const files = gone.reduce((sum, each) => sum + each.files, 0);
  const isTidy = toLow && goal.kind === "tidy";
  const [maxBytes, freeMin] = [limits.maxBytes * (isTidy ? 0.9 : 1), limits.freeBytesMin * (isTidy ? 1.5 : 1)];
  return [
    fullness.usedBytes - freed + need.bytes - maxBytes,
    need.diskBytes + freeMin - fullness.freeBytes - freed,
    need.inodes + evictionInodesMin - (fullness.freeInodes ?? Number.POSITIVE_INFINITY) - files,
    held.length - gone.length + need.variants - (limits.maxVariants ?? Number.POSITIVE_INFINITY),
  ];
}

function isUseful(
  { bytes, files }: HeldFacts,
  missing: { bytes: number; diskBytes: number; inodes: number; variants: number },
) {
  return (
    missing.variants > 0 || (bytes > 0 && missing.bytes + missing.diskBytes > 0) || (files > 0 && missing.inodes > 0)
  );
}

function numbers(held: readonly HeldFacts[]): number[] {
  return held.map(({ files }) => files).sort((a, b) => a - b);
}

test.run();
