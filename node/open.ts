import type { NamedThing } from "../protocol/handle-text.ts";
import type { PayloadId } from "../protocol/hash.ts";
import type { CheckLine, DoctorOptions } from "./doctor.ts";
import type { Initialised, InitRequest } from "./init.ts";
import type { CacheNode, NodeOptions } from "./node.ts";
import type { OriginGc, OriginGcRequest } from "./origin-gc.ts";
import type { OriginListOptions } from "./origin-list.ts";
import type { OriginRelease } from "./origin-releases.ts";
import type { Published } from "./payloads/publisher.ts";
import type { Withdrawn } from "./payloads/withdrawer.ts";
import type { PublishRequest, UnpublishRequest } from "./publish.ts";
import type { ServiceOptions } from "./service.ts";
import type { Settings } from "./settings/schema.ts";
import type { WrittenPolicy } from "./trust/policy-author.ts";
import type { BegunPolicy, TrustChange, TrustInit, TrustOptions } from "./trust-admin.ts";
import type { ListedKey, PolicyReport, TrustReset, VerifiedOrigin } from "./trust-look.ts";

// Each of these loads what is heavy (libp2p, level, fastify) when it is called, and not before: a command that only
// talks to a running node has 150 ms for everything (DESIGN section 12).

/** Starts a node in this process. @throws what `CacheNode.open` throws. */
export async function openNode(settings: Settings, options: NodeOptions = {}): Promise<CacheNode> {
  const { CacheNode } = await import("./node.ts");
  return await CacheNode.open(settings, options);
}

/** Runs a node with its local API until it is told to end. @throws what the service's `runNode` throws. */
export async function runNode(settings: Settings, options: ServiceOptions): Promise<void> {
  const service = await import("./service.ts");
  await service.runNode(settings, options);
}

/** Releases a tree to the configured origin, as the caller. @throws what the publisher's `publish` throws. */
export async function publish(settings: Settings, request: PublishRequest): Promise<Published> {
  const publisher = await import("./publish.ts");
  return await publisher.publish(settings, request);
}

/** Takes a release back at the configured origin, as the caller. @throws what the publisher's `unpublish` throws. */
export async function unpublish(settings: Settings, request: UnpublishRequest): Promise<Withdrawn> {
  const publisher = await import("./publish.ts");
  return await publisher.unpublish(settings, request);
}

/** The newest releases at the origins, as the caller. @throws what `origin-list` throws. */
export async function* listOrigin(
  settings: Settings,
  options: OriginListOptions = {},
): AsyncGenerator<OriginRelease, void, undefined> {
  const list = await import("./origin-list.ts");
  yield* list.listOrigin(settings, options);
}

/** Removes what no record names from the configured origin, as the caller. @throws what `origin-gc` throws. */
export async function collectOrigin(settings: Settings, request: OriginGcRequest): Promise<OriginGc> {
  const gc = await import("./origin-gc.ts");
  return await gc.collectOrigin(settings, request);
}

/** Begins the network's policy, as the caller. @throws what `beginPolicy` of `trust-admin` throws. */
export async function beginPolicy(settings: Settings, init: TrustInit, options?: TrustOptions): Promise<BegunPolicy> {
  const admin = await import("./trust-admin.ts");
  return await admin.beginPolicy(settings, init, options);
}

/** Changes the network's policy, as the caller. @throws what `changePolicy` of `trust-admin` throws. */
export async function changePolicy(
  settings: Settings,
  change: TrustChange,
  options?: TrustOptions,
): Promise<WrittenPolicy> {
  const admin = await import("./trust-admin.ts");
  return await admin.changePolicy(settings, change, options);
}

/** Signs a root that is on its way. @throws what `signRoot` of `trust-admin` throws. */
export async function signRoot(
  settings: Settings,
  file: string,
  options?: TrustOptions,
): Promise<{ readonly signatures: number; readonly needed: number }> {
  const admin = await import("./trust-admin.ts");
  return await admin.signRoot(settings, file, options);
}

/** Makes a new key in a policy key's place. @throws what `rotatePolicyKey` of `trust-admin` throws. */
export async function rotatePolicyKey(settings: Settings, name: string, options?: TrustOptions): Promise<BegunPolicy> {
  const admin = await import("./trust-admin.ts");
  return await admin.rotatePolicyKey(settings, name, options);
}

/** The payload that a handle means at the origin. @throws what `deniedPayload` of `trust-admin` throws. */
export async function deniedPayload(settings: Settings, thing: NamedThing): Promise<PayloadId> {
  const admin = await import("./trust-admin.ts");
  return await admin.deniedPayload(settings, thing);
}

/** The policy that this machine has verified. @throws {NotFoundError} */
export async function showPolicy(settings: Settings): Promise<PolicyReport> {
  const look = await import("./trust-look.ts");
  return await look.showPolicy(settings);
}

/** Verifies the policy of each origin. @throws what `verifyOrigins` of `trust-look` throws. */
export async function verifyOrigins(settings: Settings): Promise<VerifiedOrigin[]> {
  const look = await import("./trust-look.ts");
  return await look.verifyOrigins(settings);
}

/** Trusts a root from now on. @throws what `resetTrust` of `trust-look` throws. */
export async function resetTrust(
  settings: Settings,
  reset: TrustReset,
): Promise<{ readonly version: number; readonly sha256: string; readonly log: string }> {
  const look = await import("./trust-look.ts");
  return await look.resetTrust(settings, reset);
}

/** The private keys of policies on this machine. @throws {UsageError} for a file that is none, or is exposed. */
export async function listPolicyKeys(settings: Settings): Promise<ListedKey[]> {
  const look = await import("./trust-look.ts");
  return await look.listPolicyKeys(settings);
}

/** Signs, publishes and checks keep-alive lists, as the caller. */
export async function keepSigning(): Promise<typeof import("./keep-signing.ts")> {
  return await import("./keep-signing.ts");
}

/** Writes a configuration and its keys. @throws what `init` throws. */
export async function initialise(request: InitRequest): Promise<Initialised> {
  const init = await import("./init.ts");
  return await init.initialise(request);
}

/** The peer id of the node with this state; its key is made where there is none. @throws {UnusableError} */
export async function nodeId(settings: Settings): Promise<string> {
  const { openNodeId } = await import("./swarm/identity.ts");
  return await openNodeId(settings.node.state);
}

/** Says of everything that a node needs whether it is in order. Never rejects. */
export async function doctor(options: DoctorOptions): Promise<CheckLine[]> {
  const { doctor: look } = await import("./doctor.ts");
  return await look(options);
}
