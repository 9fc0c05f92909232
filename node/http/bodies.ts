import { isMap } from "../../protocol/cbor.ts";
import { UsageError } from "../../protocol/errors.ts";
import type { NamedThing } from "../../protocol/handle-text.ts";
import { parsePayloadId, parseVariantHash } from "../../protocol/hash.ts";
import type { OriginPolicy } from "../../protocol/origin-plan.ts";
import { type TrafficClass, trafficClasses } from "../../protocol/politeness.ts";
import { parseVariant } from "../../protocol/variant.ts";
import type { FsckWish } from "./api-types.ts";

/** What a caller of `/v1/fetch` asks for. */
export interface FetchBody {
  readonly things: readonly NamedThing[];
  readonly origin: OriginPolicy | undefined;
  readonly peers: "auto" | "never" | undefined;
  readonly timeoutMs: number | undefined;
  readonly traffic: TrafficClass | undefined;
}

/** @throws {UsageError} for a body that is not one. */
export function parseFetchBody(body: unknown): FetchBody {
  if (!isMap(body)) throw new UsageError("the request has no body");
  const { origin, peers, timeoutMs, traffic } = body;
  checkWord("origin", origin, ["auto", "limited", "never"]);
  checkWord("peers", peers, ["auto", "never"]);
  checkWord("traffic", traffic, trafficClasses);
  if (timeoutMs !== undefined && !(typeof timeoutMs === "number" && timeoutMs > 0 && timeoutMs <= timeoutMsMax)) {
    throw new UsageError("timeoutMs is a number of milliseconds");
  }
  // Checked above, field by field.
  return { things: parseThings(body.things), origin, peers, timeoutMs, traffic } as FetchBody;
}

function checkWord(name: string, value: unknown, words: readonly string[]): void {
  if (value === undefined || words.includes(value as string)) return;
  throw new UsageError(`${name} is one of ${words.join(", ")}`);
}

/** @throws {UsageError} for a body that asks for nothing, or for something else. */
export function parseFsckWish(body: unknown): FsckWish {
  if (!isMap(body)) throw new UsageError("the request has no body");
  const { repair = false, rebuild = false } = body;
  if (typeof repair !== "boolean" || typeof rebuild !== "boolean") throw new UsageError("repair and rebuild are flags");
  return { repair, rebuild };
}

/** @throws {UsageError} for a list that is not one of named things. */
export function parseThings(value: unknown): NamedThing[] {
  if (!Array.isArray(value) || value.length > thingsMax)
    throw new UsageError(`things is a list of at most ${thingsMax}`);
  return value.map(parseThing);
}

function parseThing(value: unknown): NamedThing {
  try {
    if (isMap(value) && value.kind === "variant") return { kind: "variant", variant: parseVariant(value.variant) };
    if (isMap(value) && value.kind === "variantHash") {
      return { kind: "variantHash", hash: parseVariantHash(String(value.hash)) };
    }
    if (isMap(value) && value.kind === "payload")
      return { kind: "payload", payload: parsePayloadId(String(value.payload)) };
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
  throw new UsageError("a thing is a variant, a variant's hash or a payload");
}

/** The largest toolset that a studio reported has some hundred packages. */
const thingsMax = 10_000;
/** Node's timers overflow beyond 24 days. */
const timeoutMsMax: number = 24 * 24 * 3_600_000;
