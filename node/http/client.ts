import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { P2pCacheError, UnreachableError } from "../../protocol/errors.ts";
import type { NamedThing } from "../../protocol/handle-text.ts";
import type { OriginPolicy } from "../../protocol/origin-plan.ts";
import type { TrafficClass } from "../../protocol/politeness.ts";
import type { ApiEvent, ApiFsck, ApiRemoval, ApiVariant, ErrorShape, FsckWish, HoldingShape } from "./api-types.ts";
import { type Ask, type HeldLease, KeepingClient, type LeaseCall } from "./keeping-client.ts";

/** What a fetch may be told, and how it reports. */
export interface FetchCall {
  readonly things: readonly NamedThing[];
  readonly origin?: OriginPolicy;
  readonly peers?: "auto" | "never";
  readonly timeoutMs?: number;
  readonly traffic?: TrafficClass;
}

export type Progress = Omit<Extract<ApiEvent<unknown>, { kind: "progress" }>, "kind">;

interface CallOptions {
  readonly signal?: AbortSignal;
}

/** A running node, from another process on this machine. */
export class NodeClient {
  readonly #socket: string;
  readonly #adminSocket: string;

  constructor(sockets: { readonly socket: string; readonly adminSocket: string }) {
    this.#socket = sockets.socket;
    this.#adminSocket = sockets.adminSocket;
  }

  /** What it keeps, and why. */
  get keeping(): KeepingClient {
    const ask: Ask = (socket, path, body, options) => {
      const at = socket === "admin" ? this.#adminSocket : this.#socket;
      return this.#stream(at, path, body, () => undefined, options);
    };
    return new KeepingClient(ask, (call, options) => this.#lease(call, options));
  }

  /** @throws {P2pCacheError} of another version's API; {UnreachableError} when no node answers. */
  async status(options: CallOptions = {}): Promise<Record<string, unknown>> {
    const status = (await this.#call(this.#socket, "GET", "/v1/status", undefined, options)) as Record<string, unknown>;
    if (status.apiVersion !== apiVersion) {
      throw new P2pCacheError(
        "API_VERSION",
        1,
        `the node speaks version ${String(status.apiVersion)} of the local API, this command ${apiVersion}`,
        {
          hint: "restart the node with the p2pcache that is installed",
        },
      );
    }
    return status;
  }

  async holdings(): Promise<readonly HoldingShape[]> {
    const answer = await this.#call(this.#socket, "GET", "/v1/holdings");
    return (answer as { holdings: HoldingShape[] }).holdings;
  }

  async peers(): Promise<readonly Record<string, unknown>[]> {
    return ((await this.#call(this.#socket, "GET", "/v1/peers")) as { peers: Record<string, unknown>[] }).peers;
  }

  async stop(): Promise<void> {
    await this.#call(this.#adminSocket, "POST", "/v1/stop");
  }

  async fsck(wish: FsckWish = {}, options: CallOptions = {}): Promise<ApiFsck> {
    if (!wish.repair && !wish.rebuild) return (await this.#call(this.#adminSocket, "POST", "/v1/fsck")) as ApiFsck;
    return (await this.#stream(this.#adminSocket, "/v1/fsck/mend", wish, () => undefined, options)) as ApiFsck;
  }

  async fetch(call: FetchCall, onProgress: (progress: Progress) => void, options: CallOptions): Promise<ApiVariant[]> {
    const result = await this.#stream(this.#socket, "/v1/fetch", call, onProgress, options);
    return (result as { variants: ApiVariant[] }).variants;
  }

  async verify(things: readonly NamedThing[], options: CallOptions): Promise<VerifyResult> {
    return (await this.#stream(this.#socket, "/v1/verify", { things }, () => undefined, options)) as VerifyResult;
  }

  /** Takes variants off this disk. Those that are being removed when the signal comes go all the same. */
  async remove(things: readonly NamedThing[], options: CallOptions): Promise<ApiRemoval[]> {
    const result = await this.#stream(this.#adminSocket, "/v1/rm", { things }, () => undefined, options);
    return (result as { variants: ApiRemoval[] }).variants;
  }

  async #call(
    socket: string,
    method: string,
    path: string,
    body?: unknown,
    options: CallOptions = {},
  ): Promise<unknown> {
    const response = await this.#request(socket, method, path, body, options);
    const lines: string[] = [];
    for await (const line of linesOf(response, options)) lines.push(line);
    return this.#answer(response, lines.join("\n"));
  }

  async #stream(
    socket: string,
    path: string,
    body: unknown,
    onProgress: (progress: Progress) => void,
    options: CallOptions,
  ): Promise<unknown> {
    const response = await this.#request(socket, "POST", path, body, options);
    for await (const line of linesOf(response, options)) {
      if (response.statusCode !== 200) return this.#answer(response, line);
      const event = JSON.parse(line) as ApiEvent<unknown>;
      if (event.kind === "progress") onProgress(event);
      else if (event.kind === "done") return event.result;
      else throw errorOf(event.error);
    }
    throw new UnreachableError("the node ended before it had answered");
  }

  async #lease(call: LeaseCall, options: CallOptions): Promise<HeldLease> {
    const response = await this.#request(this.#socket, "POST", "/v1/lease", call, options);
    const lines = createInterface({ input: response })[Symbol.asyncIterator]();
    const { value } = (await lines.next()) as { value?: string };
    if (value === undefined) throw new UnreachableError("the node ended before it had answered");
    if (response.statusCode !== 200) this.#answer(response, value);
    const event = JSON.parse(value) as { kind: string; error?: ErrorShape };
    if (event.kind !== "held") throw errorOf(event.error ?? { code: "INTERNAL", message: value, exit: 1 });
    // The node may end meanwhile: what runs goes on.
    response.on("error", () => undefined);
    return { release: () => void response.destroy() };
  }

  #answer(response: IncomingMessage, text: string): unknown {
    const value = JSON.parse(text) as { error?: ErrorShape };
    if (response.statusCode !== 200) throw errorOf(value.error ?? { code: "INTERNAL", message: text, exit: 1 });
    return value;
  }

  #request(
    socketPath: string,
    method: string,
    path: string,
    body: unknown,
    { signal }: CallOptions,
  ): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    const call = request({ socketPath, method, path, headers, ...(signal === undefined ? {} : { signal }) }, resolve);
    call.once("error", (cause: NodeJS.ErrnoException) =>
      reject(signal?.aborted ? signal.reason : noNode(socketPath, cause)),
    );
    call.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  }
}

export interface VerifyResult {
  readonly checked: number;
  readonly damaged: readonly {
    /** Of the variant's tree. */
    readonly path: string;
    /** The chunk's index in its payload; null where the fault is of no chunk. */
    readonly item: number | null;
    /** In the tree. */
    readonly file: string;
    readonly fault: string;
  }[];
}

const apiVersion = 1;

/** The lines of an answer. @throws the signal's reason; {UnreachableError} when the connection breaks. */
async function* linesOf(response: IncomingMessage, { signal }: CallOptions): AsyncGenerator<string> {
  try {
    yield* createInterface({ input: response });
  } catch (cause) {
    throw signal?.aborted ? signal.reason : new UnreachableError("the node ended before it had answered", { cause });
  }
  signal?.throwIfAborted();
}

function noNode(socket: string, cause: NodeJS.ErrnoException): Error {
  if (cause.code === "EACCES") {
    const hint = socket.endsWith("admin.sock")
      ? "only the user that runs the node may, and root"
      : "the socket's group may: see whose it is, and be one of them";
    return new P2pCacheError("NOT_ALLOWED", 5, `you may not talk to the node on ${socket}`, { cause, hint });
  }
  return new UnreachableError(`no node answers on ${socket}`, {
    code: "NO_NODE",
    cause,
    hint: "start one: p2pcache node run",
  });
}

function errorOf({ code, message, exit, hint, details }: ErrorShape): P2pCacheError {
  const options = { ...(hint === undefined ? {} : { hint }), ...(details === undefined ? {} : { details }) };
  return new P2pCacheError(code, exit as P2pCacheError["exit"], message, options);
}
