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
