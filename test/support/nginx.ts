import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Certificate } from "./certificates.ts";

export interface NginxOptions {
  /** The tree that it serves, at its top. */
  readonly root: string;
  /** Where it listens; on loopback when absent. */
  readonly address?: string;
  /** One that was free; a server that was killed comes back at the same one. */
  readonly port?: number;
  /** Words that start it: in a namespace. */
  readonly inside?: readonly string[];
  /** Speaks TLS with this. */
  readonly certificate?: Certificate;
  /** What stands in the `server` block besides. */
  readonly server?: string;
  /** What stands in the `http` block besides. */
  readonly http?: string;
}

/** What it has answered to one request. */
interface Served {
  readonly path: string;
  readonly bytes: number;
}

/** A real nginx on loopback, in one process, with all that it writes in a directory of its own. */
export class Nginx implements AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly #path: string;
  readonly #process: ChildProcess;

  private constructor(url: string, port: number, path: string, process: ChildProcess) {
    this.url = url;
    this.port = port;
    this.pid = process.pid!;
    this.#path = path;
    this.#process = process;
  }

  /** Starts it, and waits until it listens. */
  static async open(options: NginxOptions): Promise<Nginx> {
    const path = mkdtempSync(join(tmpdir(), "p2pcache-nginx-"));
    chmodSync(path, 0o755);
    for (const name of temporaries) mkdirSync(join(path, name));
    const { address = "127.0.0.1", port = await freePort(), inside = [] } = options;
    writeFileSync(join(path, "nginx.conf"), configuration(path, `${address}:${port}`, options));
    const program = existsSync("/usr/sbin/nginx") ? "/usr/sbin/nginx" : "nginx";
    const words = [...inside, program, "-e", "stderr", "-p", path, "-c", "nginx.conf"];
    const child = spawn(words[0]!, words.slice(1), { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    const ready = Promise.withResolvers<void>();
    child.stderr.on("data", (bytes: Buffer) => {
      said += bytes.toString();
      // In one process this is what it says last before it serves; it listens by then.
      if (said.includes('using the "')) ready.resolve();
    });
    child.once("exit", (code) => ready.reject(new Error(`nginx ended with ${code}: ${said}`)));
    child.once("error", ready.reject);
    try {
      await ready.promise;
    } catch (error) {
      rmSync(path, { recursive: true, force: true });
      throw error;
    }
    const scheme = options.certificate === undefined ? "http" : "https";
    return new Nginx(`${scheme}://${address}:${port}`, port, path, child);
  }

  /** A file that lies beside its configuration. */
  file(name: string): string {
    return join(this.#path, name);
  }

  /** What it has sent so far, also of answers that were cut short. */
  served(): Served[] {
    const lines = readFileSync(this.file("served.log"), "utf8").trimEnd().split("\n");
    return lines.filter(Boolean).map((line) => {
      const [bytes, path] = line.split(" ") as [string, string];
      return { path, bytes: Number(bytes) };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exited = once(this.#process, "exit");
      // In one process nginx may miss a SIGTERM that comes just before it waits for connections.
      this.#process.kill("SIGKILL");
      await exited;
    }
    rmSync(this.#path, { recursive: true, force: true });
  }
}

const temporaries = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

function configuration(
  path: string,
  listen: string,
  { root, certificate, server = "", http = "" }: NginxOptions,
): string {
  const tls =
    certificate === undefined
      ? ""
      : `ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};`;
  return `daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 256; }
http {
  log_format served '$body_bytes_sent $uri';
  access_log served.log served;
  default_type application/octet-stream;
  sendfile on;
  ${temporaries.map((name) => `${name}_temp_path ${path}/${name};`).join("\n  ")}
  ${http}
  server {
    listen ${listen}${certificate === undefined ? "" : " ssl"};
    root ${root};
    ${tls}
    ${server}
  }
}
`;
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
