import {
  Key,
  Metadata,
  MetadataKind,
  type Root,
  Signature,
  type Snapshot,
  type Targets,
  type Timestamp,
} from "@tufjs/models";
import { NotTrustedError } from "../../protocol/errors.ts";
import { policyFileBytesMax } from "../../protocol/limits.ts";
import { keyId, type PublisherKey, sign } from "../keys.ts";

/** Metadata of any role. */
export type AnyMetadata = Metadata<Root> | Metadata<Timestamp> | Metadata<Snapshot> | Metadata<Targets>;

/** A raw Ed25519 key as TUF has it; its id is the one that release records use. */
export function tufKey(rawPublic: Uint8Array): Key {
  const keyVal = { public: Buffer.from(rawPublic).toString("hex") };
  return new Key({ keyID: keyId(rawPublic), keyType: "ed25519", scheme: "ed25519", keyVal });
}

/** The bytes of a metadata file: those that it was read from, while nobody has signed it anew. */
export function fileBytes(metadata: AnyMetadata): Uint8Array {
  return readFrom.get(metadata) ?? Buffer.from(`${JSON.stringify(metadata.toJSON(), undefined, 1)}\n`);
}

const readFrom = new WeakMap<AnyMetadata, Uint8Array>();

/** Adds the signatures of these keys. */
export function signAll(metadata: AnyMetadata, keys: readonly PublisherKey[]): void {
  readFrom.delete(metadata);
  for (const key of keys) {
    metadata.sign((bytes) => {
      return new Signature({ keyID: keyId(key.rawPublic), sig: Buffer.from(sign(key, bytes)).toString("hex") });
    });
  }
}

/** As TUF writes times: ISO 8601 in whole seconds, UTC. */
export function isoSeconds(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

export function rootOf(bytes: Uint8Array): Metadata<Root> {
  return guarded("root", bytes, (json) => Metadata.fromJSON(MetadataKind.Root, json));
}

export function timestampOf(bytes: Uint8Array): Metadata<Timestamp> {
  return guarded("timestamp", bytes, (json) => Metadata.fromJSON(MetadataKind.Timestamp, json));
}

export function snapshotOf(bytes: Uint8Array): Metadata<Snapshot> {
  return guarded("snapshot", bytes, (json) => Metadata.fromJSON(MetadataKind.Snapshot, json));
}

export function targetsOf(bytes: Uint8Array, role = "targets"): Metadata<Targets> {
  return guarded(role, bytes, (json) => Metadata.fromJSON(MetadataKind.Targets, json));
}

/** When a timestamp was signed, by its own word; undefined where it does not say. */
export function signedAtMs({ signed }: Metadata<Timestamp>): number | undefined {
  const text = signed.unrecognizedFields[signedAtField];
  const ms = typeof text === "string" ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}

/** TUF's own metadata says when it expires, not when it was signed (decision 0081). */
export const signedAtField = "x-p2pcache-signed";

/** Why a policy is refused. `code` is for programs. */
export function policyRefused(
  code: PolicyFault,
  message: string,
  options: { cause?: unknown; hint?: string } = {},
): NotTrustedError {
  return new NotTrustedError(`the policy is refused: ${message}`, { code, ...options });
}

export type PolicyFault =
  /** Something older than what was seen. */
  | "POLICY_ROLLBACK"
  /** Nothing that is in force: an origin that stands still, or an admin who does. */
  | "POLICY_EXPIRED"
  /** Fewer right signatures than the role needs. */
  | "POLICY_UNSIGNED"
  /** Files that do not belong together, or are not what was signed. */
  | "POLICY_MIXED"
  | "POLICY_BROKEN";

function guarded<Of extends AnyMetadata>(role: string, bytes: Uint8Array, read: (json: JsonObject) => Of): Of {
  try {
    if (bytes.length > policyFileBytesMax) throw new Error(`${bytes.length} bytes, more than ${policyFileBytesMax}`);
    const metadata = read(JSON.parse(Buffer.from(bytes).toString("utf8")));
    readFrom.set(metadata, bytes);
    return metadata;
  } catch (cause) {
    throw policyRefused("POLICY_BROKEN", `its ${role} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

type JsonObject = Parameters<typeof Metadata.fromJSON>[1];
