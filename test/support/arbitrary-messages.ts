import fc from "fast-check";
import {
  type Announcement,
  type HoldingsChanges,
  type HoldingsDigest,
  packHoldings,
} from "../../protocol/announcement.ts";
import { hexToBytes, type PayloadId, parsePayloadId, parseVariantHash, type VariantHash } from "../../protocol/hash.ts";
import type {
  CatalogMessage,
  DirectoryAnswer,
  DirectoryAsk,
  EnvelopedHead,
  HelloMessage,
  SwarmMessage,
} from "../../protocol/messages.ts";
import { trafficClasses } from "../../protocol/politeness.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import type { RegisterReply } from "../../protocol/register-wire.ts";

/** Records as decoders make them: plain objects. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

const hex = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));
const variantHash: fc.Arbitrary<VariantHash> = hex.map(parseVariantHash);
const payloadId: fc.Arbitrary<PayloadId> = hex.map(parsePayloadId);
const text = fc.string({ unit: "grapheme", maxLength: 30 });
const number = fc.oneof(fc.nat(100), fc.nat(64_000_000));
const item = fc.oneof(fc.nat(300), fc.nat(8_000_000));
const items = fc.array(item, { maxLength: 256 });
const traffic = fc.constantFrom(...trafficClasses);

const greeting = {
  kind: fc.constant("hello" as const),
  versions: fc.array(fc.nat(1000), { maxLength: 16 }),
  ...{ network: text, name: text, site: text, rack: text },
};
export const hello: fc.Arbitrary<HelloMessage> = fc.oneof(
  record(greeting),
  record({ ...greeting, time: fc.maxSafeNat() }),
  record({ kind: fc.constant("refused" as const), reason: text }),
);

export const catalog: fc.Arbitrary<CatalogMessage> = fc.oneof(
  record({ kind: fc.constant("want-record" as const), variant: variantHash }),
  record({ kind: fc.constantFrom("record" as const, "absent" as const, "policy" as const) }),
  record({ kind: fc.constant("want-policy" as const), hash: hex }),
  record({
    kind: fc.constant("policy-heads" as const),
    heads: fc.array(
      record({ role: fc.constantFrom("timestamp" as const, "root" as const), version: fc.nat(), hash: hex }),
      {
        maxLength: 32,
      },
    ),
  }),
);

export const swarm: fc.Arbitrary<SwarmMessage> = fc.oneof(
  record({ kind: fc.constant("join" as const), number, payload: payloadId }),
  record({ kind: fc.constant("join" as const), number, payload: payloadId, traffic }),
  record({ kind: fc.constant("take" as const), number, payload: payloadId, items }),
  record({ kind: fc.constant("take" as const), number, payload: payloadId, items, traffic }),
  record({ kind: fc.constant("leave" as const), number }),
  record({
    kind: fc.constantFrom("request" as const, "cancel" as const, "have" as const, "gone" as const),
    number,
    items,
  }),
  record({ kind: fc.constant("joined" as const), number, all: fc.boolean() }),
  record({ kind: fc.constant("piece" as const), number, item }),
  record({ kind: fc.constant("busy" as const), number, items, retryAfterMs: fc.nat(60_000) }),
);

const peerName = fc.string({ unit: fc.constantFrom(..."12D3KooWabc"), minLength: 1, maxLength: 64 });
const holding = fc.tuple(variantHash, payloadId);

export const announcement: fc.Arbitrary<Announcement> = fc
  .record({
    peer: peerName,
    ...{ network: text, name: text, site: text, rack: text },
    addresses: fc.array(text, { maxLength: 8 }),
    ...{ epoch: fc.maxSafeNat(), sequence: fc.maxSafeNat(), lifetimeMs: fc.nat(86_400_000), count: fc.nat(20_000) },
    digest: hex.map((digest) => digest as HoldingsDigest),
    changes: fc.option(
      record<HoldingsChanges>({
        from: hex.map((digest) => digest as HoldingsDigest),
        added: fc.array(holding, { maxLength: 20 }).map(packHoldings),
        removed: fc.uniqueArray(variantHash, { maxLength: 20 }).map((variants) => hexToBytes(variants.sort().join(""))),
      }),
    ),
  })
  .map(({ changes, ...rest }) => ({ version: 1, ...rest, ...(changes === null ? {} : { changes }) }));

export const directoryAsk: fc.Arbitrary<DirectoryAsk> = fc.oneof(
  record({ kind: fc.constant("want-heads" as const) }),
  record({ kind: fc.constant("want-parts" as const), peers: fc.array(peerName, { maxLength: 20 }) }),
);

const enveloped = { envelope: fc.uint8Array({ maxLength: 600 }), remainingMs: fc.nat(86_400_000) };
export const directoryAnswer: fc.Arbitrary<DirectoryAnswer> = fc.oneof(
  record({
    kind: fc.constant("heads" as const),
    heads: fc.array(record<EnvelopedHead>(enveloped), { maxLength: 20 }),
  }),
  record({ kind: fc.constant("part" as const), ...enveloped }),
  record({ kind: fc.constantFrom("pairs" as const, "end" as const) }),
);

const group = fc.nat(65_536);
const leases = 2;
export const registerQuestion: fc.Arbitrary<readonly [PayloadId, RegisterQuestion]> = fc
  .integer({ min: 1, max: 3000 })
  .chain((groups) =>
    fc.tuple(
      payloadId,
      record<RegisterQuestion>({
        groups: fc.constant(groups),
        site: fc.constantFrom("", "berlin", "münchen 2"),
        held: fc.uint8Array({ minLength: Math.ceil(groups / 8), maxLength: Math.ceil(groups / 8) }),
        leases: fc.array(record({ group, arrived: fc.nat(1000) }), { maxLength: leases }),
        wants: fc.nat(leases),
        isFarOnly: fc.boolean(),
        isReady: fc.boolean(),
        lacking: fc.array(group, { maxLength: 8 }),
        seeks: fc.boolean(),
      }),
    ),
  );
export const registerReply: fc.Arbitrary<RegisterReply> = record<RegisterReply>({
  payload: payloadId,
  answer: fc.option(
    record<RegisterAnswer>({
      peers: fc.array(fc.stringMatching(/^[0-9A-Za-z]{1,64}$/), { maxLength: 50 }),
      leases: fc.array(record({ group, from: fc.constantFrom("origin" as const, "far" as const) }), {
        maxLength: leases,
      }),
      leaseMs: fc.nat(60_000),
      retryAfterMs: fc.nat(60_000),
    }),
    { nil: undefined },
  ),
});
