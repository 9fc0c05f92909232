import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { P2pCacheError, UsageError } from "../../protocol/errors.ts";
import type { NamedThing } from "../../protocol/handle-text.ts";
import { type ApiEvent, type ApiNode, type ApiVariant, errorShape, namedText } from "./api-types.ts";
import { parseFetchBody, parseFsckWish, parseThings } from "./bodies.ts";
import { addKeepingAdminRoutes, addKeepingRoutes, type KeepingNode } from "./keeping-routes.ts";
import { removeAll } from "./removals.ts";
import { listenOn } from "./sockets.ts";

/** A node whose checks end with their caller. */
type VerifyingNode = ApiNode &
  KeepingNode & {
    verify(things: readonly NamedThing[], options: { readonly signal: AbortSignal }): ReturnType<ApiNode["verify"]>;
  };

export interface ControlOptions {
  readonly node: VerifyingNode;
  readonly version: string;
  /** Unix sockets; the first for those who use the cache, the second for its owner. */
  readonly socket: string;
  readonly adminSocket: string;
  /** An admin asked the node to stop. */
  readonly onStop: () => void;
}

/** The local API: HTTP on two Unix sockets (DESIGN section 10). */
export class ControlServer implements AsyncDisposable {
  readonly #opened: AsyncDisposableStack;
  readonly #calls: Calls;

  private constructor(opened: AsyncDisposableStack, calls: Calls) {
    this.#opened = opened;
    this.#calls = calls;
  }

  /** @throws {BusyError} when somebody else listens there; {UnusableError} when it cannot be made safe. */
  static async open(options: ControlOptions): Promise<ControlServer> {
    const calls = new Calls();
    const user = makeServer(calls);
    const admin = makeServer(calls);
    addUserRoutes(user, options);
    addUserRoutes(admin, options);
    addAdminRoutes(admin, options);
    await using opened = new AsyncDisposableStack();
    opened.defer(() => calls.end());
    const sockets = [
      [user, options.socket, 0o660],
      [admin, options.adminSocket, 0o600],
    ] as const;
    for (const [server, socket, mode] of sockets) {
      opened.defer(() => server.close());
      opened.defer(await listenOn(server, socket, mode));
    }
    return new ControlServer(opened.move(), calls);
  }

  /** Resolves once nobody has called for this long. */
  idle(forMs: number): Promise<void> {
    return this.#calls.idle(forMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }
}

/** Counts the calls under way, for a node that ends when nobody needs it. */
class Calls {
  #open = 0;
  #waiting: { readonly forMs: number; readonly resolve: () => void } | undefined;
  #timer: NodeJS.Timeout | undefined;

  begin(): () => void {
    this.#open++;
    clearTimeout(this.#timer);
    return () => {
      this.#open--;
      this.#watch();
    };
  }

  idle(forMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting = { forMs, resolve };
    this.#watch();
    return promise;
  }

  /** Nobody waits for an idle time any more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#waiting = undefined;
  }

  #watch(): void {
    if (this.#waiting === undefined || this.#open > 0) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#waiting.resolve, this.#waiting.forMs);
  }
}

function makeServer(calls: Calls): FastifyInstance {
  const server = fastify({ bodyLimit: bodyBytesMax, forceCloseConnections: true });
  server.addHook("onRequest", async (_request, reply) => {
    const end = calls.begin();
    reply.raw.once("close", end);
  });
  server.setErrorHandler((error, _request, reply) => {
    const shape = errorShape(isBadRequest(error) ? new UsageError(error.message, { cause: error }) : error);
    void reply.status(shape.exit === 2 ? 400 : 500).send({ error: shape });
  });
  server.setNotFoundHandler((request, reply) => {
    const error = { code: "NO_SUCH_CALL", message: `there is no ${request.method} ${request.url} here`, exit: 2 };
    void reply.status(404).send({ error });
  });
  return server;
}

/** fastify's own refusals: a body that is no JSON, or too large. */
function isBadRequest(error: unknown): error is Error {
  const { statusCode } = error as { statusCode?: number };
  return error instanceof Error && statusCode !== undefined && statusCode >= 400 && statusCode < 500;
}

function addUserRoutes(server: FastifyInstance, { node, version }: ControlOptions): void {
  server.get("/v1/status", () => ({ ...node.status(version), pid: process.pid }));
  server.get("/v1/holdings", () => ({ holdings: node.holdings() }));
  server.get("/v1/peers", () => ({ peers: node.peers() }));
  server.post("/v1/verify", (request, reply) => {
    const things = parseThings((request.body as { things?: unknown } | null)?.things);
    return stream(request, reply, (signal) => node.verify(things, { signal }));
  });
  addKeepingRoutes(server, node, stream);
  server.post("/v1/fetch", (request, reply) => {
    const { things, origin, peers, timeoutMs, traffic } = parseFetchBody(request.body);
    const options = {
      ...(origin === undefined ? {} : { origin }),
      ...(peers === undefined ? {} : { peers }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(traffic === undefined ? {} : { traffic }),
    };
    return stream(request, reply, async (signal, send) => {
      const onProgress = throttled((progress: Progress) => send({ kind: "progress", ...progress }));
      const fetchOne = (thing: NamedThing) => node.fetch(thing, { ...options, signal, onProgress });
      return { variants: await Promise.all(things.map((thing) => attempt(node, thing, fetchOne))) };
    });
  });
}

function addAdminRoutes(server: FastifyInstance, { node, onStop }: ControlOptions): void {
  server.post("/v1/fsck", () => node.fsck());
  server.post("/v1/fsck/mend", (request, reply) => {
    const wish = parseFsckWish(request.body);
    return stream(request, reply, (signal) => node.fsck({ ...wish, signal }));
  });
  addKeepingAdminRoutes(server, node, stream);
  server.post("/v1/rm", (request, reply) => {
    const things = parseThings((request.body as { things?: unknown } | null)?.things);
    return stream(request, reply, async (signal) => ({ variants: await removeAll(node, things, signal) }));
  });
  server.post("/v1/stop", (_request, reply) => {
    reply.raw.once("close", onStop);
    return { stopping: true };
  });
}

type Progress = Omit<Extract<ApiEvent<unknown>, { kind: "progress" }>, "kind">;
type Send = (event: ApiEvent<unknown>) => void;

/** Answers a long call with one event a line; the work is told when the caller goes away. */
async function stream(
  request: FastifyRequest,
  reply: FastifyReply,
  work: (signal: AbortSignal, send: Send) => Promise<unknown>,
): Promise<void> {
  const left = new AbortController();
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "application/x-ndjson" });
  reply.raw.flushHeaders();
  reply.raw.once("close", () => left.abort(new P2pCacheError("INTERRUPTED", 130, "the caller has gone")));
  const send: Send = (event) => void reply.raw.write(`${JSON.stringify(event)}\n`);
  request.raw.resume();
  try {
    send({ kind: "done", result: await work(left.signal, send) });
  } catch (error) {
    send({ kind: "error", error: errorShape(error) });
  }
  reply.raw.end();
}

/** One variant that cannot be had does not keep the others from coming. */
async function attempt(
  node: ApiNode,
  thing: NamedThing,
  fetchOne: (thing: NamedThing) => Promise<ApiVariant>,
): Promise<ApiVariant> {
  try {
    return await fetchOne(thing);
  } catch (cause) {
    const error = errorShape(cause);
    const handle = namedText(thing);
    const bytes = { local: 0, peers: 0, origin: 0 };
    const reason = error.message;
    return {
      handle,
      // A payload that nobody holds is of no variant that we know.
      variant: thing.kind === "payload" ? "" : node.hashOf(thing),
      payload: undefined,
      path: undefined,
      outcome: "failed",
      reason,
      bytes,
      seconds: 0,
      error,
    };
  }
}

/** Passes on at most one call in a while, and so not every item of a large payload. */
function throttled<Progress>(send: (progress: Progress) => void): (progress: Progress) => void {
  let lastMs = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const nowMs = performance.now();
    if (nowMs - lastMs < progressMs) return;
    lastMs = nowMs;
    send(progress);
  };
}

const progressMs = 100;
/** A list of 10,000 variants. */
const bodyBytesMax: number = 4 * 1024 * 1024;
