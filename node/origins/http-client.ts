import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate, zstdDecompress } from "node:zlib";
import { Pool } from "undici";
import { FormatError } from "../../protocol/errors.ts";
import { basicCredentials, fileVersion, readCredentials } from "../origin-files.ts";
import type { Clock } from "../ports.ts";
import { connectionFault, fault, statusFault } from "./http-faults.ts";
import { type Answer, send } from "./http-request.ts";

/** How a server is spoken to. */
export interface HttpOptions {
  /** As people and logs know the origin. */
  readonly name: string;
  /** Where its tree begins; a user and a password in it are credentials. */
  readonly url: string;
  /** PEM, in place of the authorities that Node knows. */
  readonly authorities: string | undefined;
  readonly credentialsFile: string | undefined;
  readonly clock: Clock;
  /** Shorter ones for tests. */
  readonly timing?: Partial<HttpTiming>;
}

export interface HttpTiming {
  /** Until there is a connection. */
  readonly connectMs: number;
  /** Until the answer begins. */
  readonly answerMs: number;
  /** Between two parts of a body. */
  readonly idleMs: number;
}

export interface ReadOptions {
  readonly bytesMax: number;
  readonly signal: AbortSignal | undefined;
  /** What may have changed: caches on the way ask the server. */
  readonly isFresh?: boolean;
}

/** A body, and how it is still encoded: only where the server labels an object that is compressed itself. */
export interface Body {
  readonly bytes: Uint8Array;
  readonly isLabelledZstd: boolean;
}

/** Reads files of one static server over HTTP/1.1, with a few connections that are kept. */
export class HttpClient implements AsyncDisposable {
  readonly #options: HttpOptions;
  readonly #base: URL;
  readonly #credentials: Credentials;
  /** By scheme, host and port: the server, and its other face if it redirects to https. */
  readonly #pools = new Map<string, Pool>();

  constructor(options: HttpOptions) {
    this.#options = options;
    const url = new URL(options.url);
    const { username, password } = url;
    const inUrl = username === "" ? undefined : `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    [url.username, url.password] = ["", ""]; // Nothing that names the url may show them.
    url.pathname = `${url.pathname.replace(/\/+$/, "")}/`;
    this.#base = url;
    const fallback = inUrl === undefined ? undefined : basicCredentials(inUrl);
    this.#credentials = new Credentials(options.credentialsFile, fallback, options.clock);
  }

  /** The address of a file of the tree, for messages. */
  place(path: string): string {
    return placeOf(new URL(path, this.#base));
  }

  /**
   * A file of at most `bytesMax` bytes; undefined where there is none.
   * @throws {FormatError} when it is longer, or its encoding is broken; {UnreachableError} for everything else that is no
   * answer; {UsageError} for a credentials file that cannot be used.
   */
  async read(path: string, options: ReadOptions): Promise<Body | undefined> {
    const { status, headers, body } = await this.#ask("GET", path, options);
    if (status !== 200) return undefined;
    const encoding = String(headers["content-encoding"] ?? "identity")
      .trim()
      .toLowerCase();
    if (encoding === "identity" || encoding === "") return { bytes: body, isLabelledZstd: false };
    if (encoding === "zstd" && path.endsWith(".zst")) return { bytes: body, isLabelledZstd: true };
    return { bytes: await decode(body, encoding, this.place(path), options.bytesMax), isLabelledZstd: false };
  }

  /** Whether there is such a file. @throws as `read`. */
  async has(path: string, signal: AbortSignal | undefined): Promise<boolean> {
    const { status } = await this.#ask("HEAD", path, { bytesMax: 0, signal, isFresh: true });
    return status === 200;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Error("the node stops");
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy(closed)));
  }

  /** Answers what is there (200) or that nothing is (404, 410); all else is thrown. */
  async #ask(method: "GET" | "HEAD", path: string, options: ReadOptions): Promise<Answer> {
    let credentials = await this.#credentials.current();
    let isRenewed = false;
    let url = new URL(path, this.#base);
    for (let redirects = 0; ; ) {
      const answer = await this.#send(method, url, credentials, options);
      const { status, headers } = answer;
      if (status === 200 || status === 404 || status === 410) return answer;
      if ((status === 401 || status === 403) && !isRenewed) {
        // They may have been changed under us a moment ago.
        isRenewed = true;
        const renewed = await this.#credentials.renewed();
        if (renewed !== credentials) {
          credentials = renewed;
          continue;
        }
      }
      const isRedirect = [301, 302, 303, 307, 308].includes(status) && headers.location !== undefined;
      if (!isRedirect) throw statusFault(this.#options.name, placeOf(url), answer, this.#options.clock.wallMs());
      url = this.#redirected(url, String(headers.location), ++redirects);
    }
  }

  async #send(
    method: "GET" | "HEAD",
    url: URL,
    credentials: string | undefined,
    { bytesMax, signal, isFresh = false }: ReadOptions,
  ): Promise<Answer> {
    const headers = {
      "accept-encoding": "identity",
      ...(isFresh ? { "cache-control": "no-cache" } : {}),
      ...(credentials === undefined ? {} : { authorization: credentials }),
    };
    const request = { method, path: url.pathname + url.search, headers, bytesMax, place: placeOf(url), signal };
    try {
      return await send(this.#pool(url), request);
    } catch (error) {
      if (error instanceof FormatError || signal?.aborted === true) throw error;
      throw connectionFault(this.#options.name, placeOf(url), error);
    }
  }

  /** Only within the host, and never from https to http: credentials and trust are for that host. */
  #redirected(from: URL, location: string, count: number): URL {
    const { name } = this.#options;
    const refuse = (why: string) =>
      fault(name, placeOf(from), why, {
        isLasting: true,
        hint: "set the origin's url to where its tree really begins",
      });
    if (!URL.canParse(location, from.href)) throw refuse("redirects to nowhere");
    const to = new URL(location, from);
    // Only scheme and host are named: the rest of an address that somebody made up may be a secret.
    const target = `${to.protocol}//${to.host}`;
    const isUpgrade = from.protocol === "http:" && to.protocol === "https:" && to.hostname === from.hostname;
    if (to.origin !== from.origin && !isUpgrade) throw refuse(`redirects to ${target}, which is another server`);
    if (count > redirectsMax) throw refuse(`redirects more than ${redirectsMax} times`);
    [to.username, to.password, to.hash] = ["", "", ""];
    return to;
  }

  #pool({ origin }: URL): Pool {
    const known = this.#pools.get(origin);
    if (known !== undefined) return known;
    const { authorities, timing = {} } = this.#options;
    const { connectMs, answerMs, idleMs } = { ...defaultTiming, ...timing };
    const pool = new Pool(origin, {
      connections: connectionsMax,
      pipelining: 1,
      allowH2: false,
      connectTimeout: connectMs,
      headersTimeout: answerMs,
      bodyTimeout: idleMs,
      keepAliveTimeout: keepMs,
      keepAliveMaxTimeout: keepMsMax,
      connect: { ...(authorities === undefined ? {} : { ca: authorities }) },
    });
    this.#pools.set(origin, pool);
    return pool;
  }
}

/** An address for people: what a redirect adds behind the path may be a signature that lets in whoever has it. */
function placeOf({ origin, pathname }: URL): string {
  return origin + pathname;
}

/** The `Authorization` header, read from its file again when that changes. */
class Credentials {
  readonly #path: string | undefined;
  readonly #clock: Clock;
  #header: string | undefined;
  #version: string | undefined;
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(path: string | undefined, fallback: string | undefined, clock: Clock) {
    this.#path = path;
    this.#header = fallback;
    this.#clock = clock;
  }

  /** As they were a moment ago. @throws {UsageError} */
  async current(): Promise<string | undefined> {
    return this.#clock.monotonicMs() - this.#lookedMs < lookMs ? this.#header : await this.renewed();
  }

  /** As they are now. @throws {UsageError} */
  async renewed(): Promise<string | undefined> {
    if (this.#path === undefined) return this.#header;
    const version = await fileVersion(this.#path);
    if (version === undefined || version !== this.#version) {
      this.#header = await readCredentials(this.#path);
      this.#version = version;
    }
    this.#lookedMs = this.#clock.monotonicMs();
    return this.#header;
  }
}

/** Servers are asked not to encode; one that does so all the same is understood. @throws {FormatError} */
async function decode(body: Uint8Array, encoding: string, place: string, bytesMax: number): Promise<Uint8Array> {
  const decoder = decoders.get(encoding);
  if (decoder === undefined) throw new FormatError(`${place} comes in the unknown encoding ${encoding.slice(0, 40)}`);
  try {
    return await decoder(body, { maxOutputLength: Math.max(1, bytesMax) });
  } catch (cause) {
    const isLonger = (cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    const fault = isLonger ? `has more than ${bytesMax} bytes` : `is broken: it is no ${encoding}`;
    throw new FormatError(`${place} ${fault}`, { cause });
  }
}

type Decoder = (body: Uint8Array, options: { readonly maxOutputLength: number }) => Promise<Uint8Array>;
const decoders: ReadonlyMap<string, Decoder> = new Map<string, Decoder>([
  ["gzip", promisify(gunzip)],
  ["x-gzip", promisify(gunzip)],
  ["deflate", promisify(inflate)],
  ["br", promisify(brotliDecompress)],
  ["zstd", promisify(zstdDecompress)],
]);

/** A LAN answers in milliseconds; Transfer gives up what takes longer than 30 s. */
const defaultTiming: HttpTiming = { connectMs: 5_000, answerMs: 20_000, idleMs: 10_000 };
/** A transfer has 4 MiB at an origin under way: eight chunks of the target size. */
const connectionsMax = 8;
const redirectsMax = 5;
/** How long a connection is kept that nobody uses: less than servers do (Apache: 5 s, and it says so; nginx: 75 s). */
const keepMs = 10_000;
const keepMsMax = 60_000;
/** How often the credentials file is looked at. */
const lookMs = 1_000;
