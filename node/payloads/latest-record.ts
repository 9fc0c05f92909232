import { FormatError } from "../../protocol/errors.ts";
import type { VariantHash } from "../../protocol/hash.ts";
import { decodeEnvelope, decodeRecord, encodeEnvelope, type SignedRecord, signedBytes } from "../../protocol/record.ts";
import { variantHash, variantText } from "../../protocol/variant.ts";
import type { HashEngine } from "../hasher.ts";
import type { Origin, WaitOptions } from "../ports.ts";

/** Who signs records: Ed25519 over the message. */
export interface RecordSigner {
  /** Hex SHA-256 of the raw public key. */
  readonly keyid: string;
  sign(message: Uint8Array): Uint8Array;
}

/** The latest record of a variant, and who signed it by their own word. */
export interface LatestRecord<Some extends SignedRecord = SignedRecord> {
  readonly record: Some;
  readonly keyids: readonly string[];
  readonly envelope: Uint8Array;
}

/** @throws {FormatError} for a record that breaks a rule, or is of another variant. */
export async function latestRecordOf(
  repository: Pick<Origin, "name" | "latestRecord">,
  hash: VariantHash,
  engine: HashEngine,
  options: WaitOptions = {},
): Promise<LatestRecord | undefined> {
  const bytes = await repository.latestRecord(hash, options);
  if (bytes === undefined) return undefined;
  const envelope = decodeEnvelope(bytes);
  const record = decodeRecord(envelope.body, engine.hash);
  if (variantHash(record.variant, engine.hash) !== hash) {
    throw new FormatError(
      `${repository.name} has a record of ${variantText(record.variant)} in another variant's place`,
    );
  }
  return { record, keyids: envelope.signatures.map(({ keyid }) => keyid), envelope: bytes };
}

/** A record's body in an envelope that its signer has signed. */
export function sealed(body: Uint8Array, { keyid, sign }: RecordSigner): Uint8Array {
  return encodeEnvelope({ body, signatures: [{ keyid, sig: sign(signedBytes(body)) }] });
}
