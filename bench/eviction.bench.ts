import {
  type EvictionInput,
  type HeldFacts,
  hashFromBytes,
  KeepIndex,
  parseKeepList,
  planEviction,
  reasonText,
  type SignedKeepList,
  seededRandom,
  type Variant,
} from "../protocol/index.ts";

/** Issue 5: 100,000 holdings and 50 lists of 2,000 entries. */
const [heldCount, listCount, entryCount] = [100_000, 50, 2_000];
const nowMs = Date.parse("2026-11-21T08:00:00Z");
const dayMs = 86_400_000;

/** What a node computes of its lists and holdings, from nothing; the middle of seven times. */
export async function run(): Promise<void> {
  const random = seededRandom(5);
  const variants = Array.from({ length: heldCount }, (_, i): Variant => variantNumber(i));
  const lists = Array.from({ length: listCount }, (_, i) => makeList(i, random));
  const times = { index: [] as number[], namings: [] as number[], plan: [] as number[], texts: [] as number[] };
  let going = 0;
  for (let round = 0; round < 7; round++) {
    const t0 = performance.now();
    const index = new KeepIndex(lists, { site: "london", rack: "a1", host: "ws1" }, nowMs);
    const t1 = performance.now();
    const namings = variants.map((variant) => index.best(variant));
    const t2 = performance.now();
    const held = namings.map((naming, i): HeldFacts => {
      const lastUsedMs = nowMs - Math.floor(random() * 90 * dayMs);
      const variant = hashFromBytes<"variant">(digest(i));
      return { variant, bytes: 1e6 + Math.floor(random() * 1e9), files: 100, lastUsedMs, replicas: i % 7, naming };
    });
    const t3 = performance.now();
    const plan = planEviction(inputFor(held));
    const t4 = performance.now();
    const texts = plan.lines.map((line) => reasonText(line, nowMs));
    const t5 = performance.now();
    going = texts.filter((text) => text.startsWith("goes")).length;
    times.index.push(t1 - t0);
    times.namings.push(t2 - t1);
    times.plan.push(t4 - t3);
    times.texts.push(t5 - t4);
  }
  const middle = (of: number[]) => [...of].sort((a, b) => a - b)[3]!.toFixed(0);
  process.stdout.write(
    `${heldCount} holdings, ${listCount} lists of ${entryCount}: merge the lists ${middle(times.index)} ms, find what each ` +
      `names ${middle(times.namings)} ms, plan ${middle(times.plan)} ms (${going} go), write the reasons ${middle(times.texts)} ms\n`,
  );
}

function inputFor(held: readonly HeldFacts[]): EvictionInput {
  const usedBytes = held.reduce((sum, { bytes }) => sum + bytes, 0);
  const maxBytes = usedBytes * 0.8;
  return {
    held,
    limits: {
      ...{ maxBytes, maxVariants: 90_000, maxAgeMs: 60 * dayMs, freeBytesMin: 1e9 },
      ...{ pinnedBytesMax: 0.8 * maxBytes, minIdleMs: dayMs },
    },
    fullness: { usedBytes, freeBytes: 2e9, freeInodes: undefined, comingVariants: 0 },
    goal: { kind: "tidy", toLow: false },
    wallMs: nowMs,
  };
}

/** 2,000 packages with 50 versions each. */
function variantNumber(i: number): Variant {
  const version = `${2020 + (i % 10)}.${Math.floor(i / 10) % 5}`;
  return { kind: "rez", repository: "studio", name: `package_${Math.floor(i / 50)}`, version, index: i % 2 };
}

function makeList(i: number, random: () => number): SignedKeepList {
  const keep = Array.from({ length: entryCount }, (_, line) => {
    const name = `studio:package_${Math.floor(random() * (heldCount / 50))}`;
    const year = 2020 + Math.floor(random() * 10);
    if (line % 3 === 0) return { package: `${name}-${year}+<${year + 1}` };
    if (line % 3 === 1) return { package: `${name}-${year}.${line % 5}` };
    return { package: `${name}-${year}.${line % 5}[${line % 2}]` };
  });
  const times = { signedAt: "2026-11-20T08:00:00Z", expires: "2027-01-01T00:00:00Z" };
  return { ...parseKeepList({ toolset: `toolset-${i}`, keep }), version: 1, signer: "bench", ...times };
}

function digest(i: number): Uint8Array {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, Math.imul(i, 2654435761) >>> 0);
  new DataView(bytes.buffer).setUint32(4, i);
  return bytes;
}
