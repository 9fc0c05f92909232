import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Certificate } from "./certificates.ts";

export interface NginxOptions {
  /** The tree that it serves, at its top. */
  readonly root: string;
  /** Speaks TLS with this. */
  readonly certificate?: Certificate;
  /** What stands in the `server` block besides. */
  readonly server?: string;
  /** What stands in the `http` block besides. */
  readonly http?: string;
}

/** A real nginx on loopback, in one process, with all that it writes in a directory of its own. */
export class Nginx implements AsyncDisposable {
  readonly url: string;
  readonly #path: string;
  readonly #process: ChildProcess;

  private constructor(url: string, path: string, process: ChildProcess) {
    this.url = url;
    this.#path = path;
    this.#process = process;
  }

  /** Starts it, and waits until it listens. */
  static async open(options: NginxOptions): Promise<Nginx> {
    const path = mkdtempSync(join(tmpdir(), "p2pcache-nginx-"));
    chmodSync(path, 0o755);
    for (const name of temporaries) mkdirSync(join(path, name));
    const port = await freePort();
    writeFileSync(join(path, "nginx.conf"), configuration(path, port, options));
    const program = existsSync("/usr/sbin/nginx") ? "/usr/sbin/nginx" : "nginx";
    const child = spawn(program, ["-e", "stderr", "-p", path, "-c", "nginx.conf"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
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
    return new Nginx(`http${options.certificate === undefined ? "" : "s"}://127.0.0.1:${port}`, path, child);
  }

  /** A file that lies beside its configuration. */
  file(name: string): string {
    return join(this.#path, name);
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
  port: number,
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
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  ${temporaries.map((name) => `${name}_temp_path ${path}/${name};`).join("\n  ")}
  ${http}
  server {
    listen 127.0.0.1:${port}${certificate === undefined ? "" : " ssl"};
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
