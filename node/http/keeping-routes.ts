import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { isMap } from "../../protocol/cbor.ts";
import { P2pCacheError, UsageError } from "../../protocol/errors.ts";
import { isText } from "../../protocol/fields.ts";
import type { NamedThing } from "../../protocol/handle-text.ts";
import { errorShape } from "./api-types.ts";
import { parseThings } from "./bodies.ts";
import type { ApiKeeping } from "./keeping-types.ts";

/** A node that keeps and cleans. */
export interface KeepingNode {
  readonly keeping: ApiKeeping;
  hashOf(thing: NamedThing): string;
}

type Stream = (
  request: FastifyRequest,
  reply: FastifyReply,
  work: (signal: AbortSignal) => Promise<unknown>,
) => Promise<void>;

/** What those who use the cache may ask: why something stays, and to be left what they run from. */
export function addKeepingRoutes(server: FastifyInstance, node: KeepingNode, stream: Stream): void {
  server.post("/v1/explain", (request, reply) => {
    const thing = oneThing(request.body);
    return stream(request, reply, () => node.keeping.explain(thing));
  });
  server.post("/v1/keepalive/lists", (request, reply) => {
    const refresh = isMap(request.body) && request.body.refresh === true;
    return stream(request, reply, async (signal) => ({ lists: await node.keeping.lists({ refresh, signal }) }));
  });
  server.post("/v1/keepalive/coverage", (request, reply) => {
    const toolset = isMap(request.body) ? request.body.toolset : undefined;
    if (!isText(toolset)) throw new UsageError("toolset is a text");
    return stream(request, reply, (signal) => node.keeping.coverage(toolset, signal));
  });
  server.post("/v1/lease", (request, reply) => lease(node, request, reply));
}

/** What the cache's owner may ask. */
export function addKeepingAdminRoutes(server: FastifyInstance, node: KeepingNode, stream: Stream): void {
  server.post("/v1/gc", (request, reply) => {
    const dryRun = isMap(request.body) && request.body.dryRun === true;
    return stream(request, reply, (signal) => node.keeping.gc({ dryRun, signal }));
  });
  for (const verb of ["pin", "unpin"] as const) {
    server.post(`/v1/${verb}`, (request, reply) => {
      const thing = oneThing(request.body);
      return stream(request, reply, () => node.keeping[verb](thing));
    });
  }
}

/** Answers `held`, and then nothing: the lease lasts as long as the connection, and the process that it names. */
async function lease(node: KeepingNode, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const body = isMap(request.body) ? request.body : {};
  const things = parseThings(body.things);
  const { name } = body;
  if (!isText(name) || name === "") throw new UsageError("a lease has a name: what runs");
  const gone = Promise.withResolvers<void>();
  reply.hijack();
  reply.raw.once("close", gone.resolve);
  reply.raw.writeHead(200, { "content-type": "application/x-ndjson" });
  request.raw.resume();
  try {
    const variants = things.map((thing) => node.hashOf(thing));
    const held = await node.keeping.leaseFor({ variants, name, process: body.process });
    reply.raw.write(`${JSON.stringify({ kind: "held", lease: held.id })}\n`);
    await gone.promise;
    await held.leave();
  } catch (error) {
    reply.raw.write(`${JSON.stringify({ kind: "error", error: errorShape(error) })}\n`);
    if (!(error instanceof P2pCacheError)) throw error;
  } finally {
    reply.raw.end();
  }
}

function oneThing(body: unknown): NamedThing {
  const [thing, ...others] = parseThings(isMap(body) ? [body.thing] : undefined);
  if (thing === undefined || others.length > 0) throw new UsageError("thing is one variant, its hash or a payload");
  return thing;
}
