import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import type { Origin, Swarm } from "../../node/ports.ts";
import { findRecord, type RecordSources } from "../../node/record-finder.ts";
import { MemoryNetwork } from "../../node/swarm/memory-swarm.ts";
import { type P2pCacheError, UnreachableError } from "../../protocol/errors.ts";
import { decodeEnvelope, encodeEnvelope } from "../../protocol/record.ts";
import { variantHash } from "../../protocol/variant.ts";
import { isSigned, never, publishers, publishSample, unreachable, WatchedOrigin } from "../support/fetch-world.ts";
import { engine, variantOf } from "../support/payloads.ts";
import { failureOf, Member } from "../support/swarm-member.ts";

const test = suite("the record finder");
const variant = variantHash(variantOf("foo"), engine.hash);

// Two releases of `foo` by a publisher that is trusted, the second superseding the first; a third that conflicts with
// the first; one by somebody else; one of another variant.
const repository = new MemoryRepository("filer");
await publishSample(repository);
await publishSample(repository, { seed: 2, supersede: true });
const [first, second] = repository.records.get(variant)! as [Uint8Array, Uint8Array];
const rival = await envelopeOf({ seed: 3 });
const stranger = await envelopeOf({ keyid: "bb".repeat(32) });
const otherVariant = await envelopeOf({ variant: variantOf("bar") });
const unsigned = encodeEnvelope({ ...decodeEnvelope(first), signatures: [] });
const { body, signatures } = decodeEnvelope(first);
const forged = encodeEnvelope({
  body,
  signatures: signatures.map(({ keyid }) => ({ keyid, sig: new Uint8Array(32) })),
});
const garbage = new TextEncoder().encode("{}");

async function envelopeOf(options: Parameters<typeof publishSample>[1]): Promise<Uint8Array> {
  const own = new MemoryRepository("own");
  const { variant: hash } = await publishSample(own, options);
  return own.records.get(hash)![0]!;
}

/** An origin that has one record, or does what it is told. */
function origin(answer: Uint8Array | undefined | WatchedOrigin["before"]): Origin {
  const own = new MemoryRepository("origin");
  if (answer instanceof Uint8Array) own.records.set(variant, [answer]);
  const watched = new WatchedOrigin(own);
  if (typeof answer === "function") watched.before = answer;
  return watched;
}

function sources(more: Partial<RecordSources> & { readonly here?: Uint8Array } = {}): RecordSources {
  const { here, ...rest } = more;
  return {
    origins: [],
    swarm: undefined,
    peersFor: () => [],
    stored: async () => here,
    publishers,
    verify: isSigned,
    hasher: engine.hash,
    ...rest,
  };
}

/** A swarm whose peers answer with these. */
async function peers(
  answers: readonly (Uint8Array | undefined | "nothing")[],
): Promise<Pick<RecordSources, "swarm" | "peersFor">> {
  const network = new MemoryNetwork();
  const own = new Member();
  const swarm: Swarm = network.open("own", own.handlers);
  for (const [i, answer] of answers.entries()) {
    const member = new Member();
    Object.assign(member.handlers, { record: async () => (answer === "nothing" ? await never : answer) });
    await own.ready(network.open(`${i}`, member.handlers));
  }
  return { swarm, peersFor: () => swarm.peers().map(({ peer }) => peer) };
}

async function revisionOf(from: RecordSources, signal?: AbortSignal): Promise<number> {
  const { record } = await findRecord(from, variant, signal === undefined ? {} : { signal });
  return record.revision;
}

async function refusal(from: RecordSources): Promise<readonly [string | undefined, number | undefined]> {
  const failure = await failureOf(revisionOf(from));
  return [failure.code, failure.exit];
}

test("the highest revision wins, wherever it is", async () => {
  assert.is(await revisionOf(sources({ here: first, origins: [origin(second)] })), 1);
  assert.is(await revisionOf(sources({ here: second, origins: [origin(first)] })), 1);
  assert.is(await revisionOf(sources({ origins: [origin(first)], ...(await peers([first, second, undefined])) })), 1);
  assert.is(await revisionOf(sources({ origins: [origin(first), origin(second)] })), 1);
  assert.is(await revisionOf(sources({ here: first })), 0);
});

test("once the origins have answered, peers that say nothing are waited for a moment only", async () => {
  const startedMs = performance.now();
  assert.is(await revisionOf(sources({ origins: [origin(first)], ...(await peers(["nothing"])) })), 0);
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs < 450, `${tookMs} ms`);
  const slow = origin(() => new Promise((resolve) => setTimeout(resolve, 300)));
  assert.is(await revisionOf(sources({ here: first, origins: [slow], ...(await peers(["nothing"])) })), 0);
  assert.ok(performance.now() - startedMs - tookMs >= 300, "an origin may know of a higher one");
});

test("two trees for one revision are a conflict that names both", async () => {
  const failure = (await failureOf(revisionOf(sources({ here: first, origins: [origin(rival)] })))) as P2pCacheError;
  assert.equal([failure.code, failure.exit], ["RECORD_CONFLICT", 5]);
  const payloads = failure.message.match(/[0-9a-f]{64}/g);
  assert.is(new Set(payloads).size, 2);
});

test("a revision above a conflict ends it, in whatever order they come", async () => {
  const all = [first, rival, second];
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    assert.is(await revisionOf(sources({ origins: order.map((i) => origin(all[i]!)) })), 1);
  }
});

test("records that nobody vouches for are refused, and do not hide a good one", async () => {
  for (const [bad, code] of [
    [unsigned, "NOT_TRUSTED"],
    [stranger, "NOT_TRUSTED"],
    [forged, "BAD_SIGNATURE"],
  ] as const) {
    assert.equal(await refusal(sources({ origins: [origin(bad)] })), [code, 5]);
    assert.equal(await refusal(sources({ ...(await peers([bad])), origins: [origin(undefined)] })), [code, 5]);
    assert.is(await revisionOf(sources({ ...(await peers([bad, bad])), origins: [origin(first)] })), 0);
    assert.is(await revisionOf(sources({ ...(await peers([bad, first])) })), 0);
  }
  assert.equal((await refusal(sources({ ...(await peers([garbage])) })))[1], 4);
});

test("with hash-only anybody is believed", async () => {
  assert.is(await revisionOf(sources({ origins: [origin(stranger)], publishers: undefined })), 0);
});

test("a record of another variant answers another question", async () => {
  assert.equal(await refusal(sources({ ...(await peers([otherVariant])) })), ["NOT_FOUND", 3]);
  assert.is(await revisionOf(sources({ here: otherVariant, origins: [origin(first)] })), 0);
});

test("nobody has it, or nobody answers", async () => {
  assert.equal(await refusal(sources()), ["NOT_FOUND", 3]);
  assert.equal(await refusal(sources({ origins: [origin(undefined)], ...(await peers([undefined])) })), [
    "NOT_FOUND",
    3,
  ]);
  assert.equal(await refusal(sources({ origins: [origin(unreachable)] })), ["UNREACHABLE", 6]);
  assert.equal(await refusal(sources({ origins: [origin(unreachable)], ...(await peers([undefined])) })), [
    "UNREACHABLE",
    6,
  ]);
  const gone = { swarm: new MemoryNetwork().open("own", new Member().handlers), peersFor: () => ["nobody"] };
  assert.equal(await refusal(sources(gone)), ["UNREACHABLE", 6]);
});

test("one that is unreachable does not hide what another has", async () => {
  assert.is(await revisionOf(sources({ origins: [origin(unreachable), origin(first)] })), 0);
  assert.is(await revisionOf(sources({ here: first, origins: [origin(unreachable)] })), 0);
});

test("once a record is there, those that hang are waited for a moment and no longer", async () => {
  for (const more of [{ here: first }, await peers([first, "nothing"])]) {
    const startedMs = performance.now();
    assert.is(await revisionOf(sources({ ...more, origins: [origin(() => never)] })), 0);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs > 400 && tookMs < 1_500, `${tookMs} ms`);
  }
});

test("whoever has not answered at the end is told to stop", async () => {
  let signal: AbortSignal | undefined;
  const slow = new WatchedOrigin(repository);
  slow.before = (_, given) => {
    signal = given;
    return never;
  };
  await revisionOf(sources({ here: first, origins: [slow] }));
  assert.is(signal?.aborted, true);
});

test("an abort ends the search with its reason, also one that came before", async () => {
  const reason = new Error("enough");
  const hanging = sources({ origins: [origin(() => never)] });
  assert.is(await failureOf(revisionOf(hanging, AbortSignal.abort(reason))), reason);
  const stop = new AbortController();
  setImmediate(() => stop.abort(reason));
  assert.is(await failureOf(revisionOf(hanging, stop.signal)), reason);
});

test("without a swarm no peer is asked, whoever is known", async () => {
  assert.equal(await refusal(sources({ peersFor: () => ["somebody"] })), ["NOT_FOUND", 3]);
});

test("a few peers are asked, not all", async () => {
  const many = await peers(Array.from({ length: 10 }, () => undefined));
  await refusal(sources(many));
  assert.is((many.swarm as unknown as { asked: readonly unknown[] }).asked.length, 4);
});

test("a disk that cannot be read is like one that has nothing", async () => {
  const stored = async () => Promise.reject(new UnreachableError("broken"));
  assert.is(await revisionOf(sources({ stored, origins: [origin(first)] })), 0);
});

test.run();
