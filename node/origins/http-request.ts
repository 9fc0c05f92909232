import type { Dispatcher } from "undici";
import { FormatError } from "../../protocol/errors.ts";
import { KIB } from "../../protocol/limits.ts";
import { takeBuffer } from "../chunk-buffers.ts";
import type { Headers } from "./http-faults.ts";

/** An answer, whatever its status; the body of a status other than 200 is thrown away. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

/** One request to a server. */
export interface HttpRequest {
  readonly method: "GET" | "HEAD";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A longer body is not read. */
  readonly bytesMax: number;
  /** Names the object in errors. */
  readonly place: string;
  readonly signal: AbortSignal | undefined;
}

/**
 * Sends a request and gathers its answer. @throws {FormatError} as soon as the body is longer than it may be; the signal's
 * reason; what undici says of the connection.
 */
export async function send(dispatcher: Dispatcher, request: HttpRequest): Promise<Answer> {
  const { method, path, headers, signal } = request;
  signal?.throwIfAborted();
  const gathering = new Gathering(request);
  const onAbort = () => gathering.end(signal?.reason as Error);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    dispatcher.dispatch({ method, path, headers: { ...headers } }, gathering);
    return await gathering.answer;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Puts an answer together as it comes in; never takes more than the request allows. */
class Gathering implements Dispatcher.DispatchHandler {
  readonly #request: HttpRequest;
  readonly #outcome = Promise.withResolvers<Answer>();
  #controller: Dispatcher.DispatchController | undefined;
  #ended: Error | undefined;
  #status = 0;
  #headers: Headers = {};
  /** Where the length is known: the body itself, filled as it comes. */
  #whole: Uint8Array | undefined;
  readonly #parts: Uint8Array[] = [];
  #filled = 0;

  constructor(request: HttpRequest) {
    this.#request = request;
    // Whoever sent the request hears of it; an abort may come before that.
    this.#outcome.promise.catch(() => undefined);
  }

  get answer(): Promise<Answer> {
    return this.#outcome.promise;
  }

  /** No more is wanted. */
  end(reason: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#outcome.reject(reason);
    this.#controller?.abort(reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#ended !== undefined) controller.abort(this.#ended);
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: Headers): void {
    if (status < 200) return;
    this.#status = status;
    this.#headers = headers;
    if (this.#request.method === "HEAD") return;
    const length = Number(headers["content-length"] ?? Number.NaN);
    if (status !== 200) {
      // A short page is read to its end, so that the connection can be used again.
      if (length > pageBytesMax) this.#cutShort();
    } else if (length > this.#bytesMax) this.#tooLong(`${length}`);
    else if (Number.isInteger(length)) this.#whole = takeBuffer(length);
  }

  onResponseData(_: Dispatcher.DispatchController, part: Uint8Array): void {
    if (this.#ended !== undefined) return;
    const at = this.#filled;
    this.#filled += part.length;
    if (this.#status !== 200) {
      if (this.#filled > pageBytesMax) this.#cutShort();
    } else if (this.#filled > (this.#whole?.length ?? this.#bytesMax)) this.#tooLong("more");
    else if (this.#whole === undefined) this.#parts.push(part);
    else this.#whole.set(part, at);
  }

  onResponseEnd(): void {
    this.#settle();
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#outcome.reject(this.#ended ?? error);
  }

  /** A compressed body of what does not compress is a little longer than that. */
  get #bytesMax(): number {
    const { bytesMax } = this.#request;
    return this.#headers["content-encoding"] === undefined ? bytesMax : bytesMax + (bytesMax >> 8) + KIB;
  }

  #tooLong(sent: string): void {
    const { place, bytesMax } = this.#request;
    this.end(new FormatError(`${place} has ${sent} bytes, where there are ${bytesMax} at most`));
  }

  #settle(): void {
    const body = this.#status === 200 ? (this.#whole ?? Buffer.concat(this.#parts)) : noBytes;
    this.#outcome.resolve({ status: this.#status, headers: this.#headers, body });
  }

  /** The rest of a long page is not waited for. */
  #cutShort(): void {
    this.#settle();
    this.end(new Error("its status says enough"));
  }
}

const noBytes = new Uint8Array(0);
/** Pages that say what went wrong are shorter. */
const pageBytesMax: number = 64 * KIB;
