import type { Head, PackedHoldings } from "./announcement.ts";
import { encodeNumbers } from "./directory-reader.ts";
import { headsFrameBytesMax, headsPerFrameMax, pairsMax, pairsPerFrameMax } from "./limits.ts";
import type { DirectoryFrame, EnvelopedHead } from "./messages.ts";
import { pairBytes } from "./pair-array.ts";
import { PairTable } from "./pair-table.ts";
import type { Random } from "./random.ts";

/** The answer to `want-heads`, frame by frame. */
export function* writeHeads(heads: Iterable<Head>): Generator<DirectoryFrame> {
  let batch: EnvelopedHead[] = [];
  let bytes = 0;
  for (const head of heads) {
    batch.push(enveloped(head));
    bytes += head.signed.envelope.length;
    if (batch.length < headsPerFrameMax && bytes < headsFrameBytesMax) continue;
    yield { message: { kind: "heads", heads: batch }, body: empty };
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield { message: { kind: "heads", heads: batch }, body: empty };
  yield end;
}

/** The answer to `want-parts`, frame by frame: each pair goes once, and then by its number. */
export function* writeParts(
  parts: Iterable<{ readonly head: Head; readonly whole: PackedHoldings }>,
  random: Random,
): Generator<DirectoryFrame> {
  const table = new PairTable(random);
  for (const { head, whole } of parts) {
    const first = table.size;
    // What the reader would not take is not sent: it asks for the rest again.
    if (first + whole.length / pairBytes > pairsMax) break;
    const numbers = new Uint32Array(whole.length / pairBytes);
    for (let index = 0; index < numbers.length; index++) numbers[index] = table.intern(whole, index * pairBytes);
    const fresh = table.pairs.bytes.slice(first * pairBytes, table.size * pairBytes);
    for (let at = 0; at < fresh.length; at += pairsPerFrameMax * pairBytes) {
      yield { message: { kind: "pairs" }, body: fresh.subarray(at, at + pairsPerFrameMax * pairBytes) };
    }
    yield { message: { kind: "part", ...enveloped(head) }, body: encodeNumbers(numbers.sort()) };
  }
  yield end;
}

const empty = new Uint8Array(0);
const end: DirectoryFrame = { message: { kind: "end" }, body: empty };

function enveloped({ signed, remainingMs }: Head): EnvelopedHead {
  return { envelope: signed.envelope, remainingMs: Math.floor(remainingMs) };
}
