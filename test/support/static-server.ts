import { once } from "node:events";
import { createReadStream, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { Certificate } from "./certificates.ts";

/** Answers a request in place of the server; false: it does not. */
export type Misbehaviour = (request: IncomingMessage, response: ServerResponse, file: string) => boolean;

/** A bare static server over a directory, which may be told to misbehave, and notes what it is asked. */
export class StaticServer implements AsyncDisposable {
  readonly url: string;
  readonly asked: string[] = [];
  misbehave: Misbehaviour = () => false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  static async open(root: string, certificate?: Certificate): Promise<StaticServer> {
    const answer = (request: IncomingMessage, response: ServerResponse) => opened.#answer(root, request, response);
    const server = certificate === undefined ? createServer(answer) : createTlsServer({ ...certificate }, answer);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const opened = new StaticServer(
      server as Server,
      `http${certificate === undefined ? "" : "s"}://127.0.0.1:${port}`,
    );
    return opened;
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#sockets.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #answer(root: string, request: IncomingMessage, response: ServerResponse): void {
    const path = new URL(request.url ?? "", "http://x").pathname;
    this.asked.push(`${request.method} ${path}`);
    const file = join(root, path);
    response.on("error", () => undefined);
    if (this.misbehave(request, response, file) === true) return;
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat?.isFile() !== true) {
      response.writeHead(404).end("not here\n");
      return;
    }
    response.writeHead(200, { "content-length": stat.size });
    if (request.method === "HEAD") response.end();
    else createReadStream(file).pipe(response);
  }
}

/** Whether a request is for a chunk or segment. */
export function isForChunk({ url }: IncomingMessage): boolean {
  return url?.includes("/chunks/") === true;
}
