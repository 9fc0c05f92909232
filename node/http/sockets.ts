import { chmod, mkdir, mkdtemp, realpath, rename, rm, unlink } from "node:fs/promises";
import { connect } from "node:net";
import { basename, dirname, join } from "node:path";
import type { FastifyInstance } from "fastify";
import { BusyError } from "../../protocol/errors.ts";
import { checkPath } from "../path-guard.ts";

/**
 * Listens on a Unix socket with a mode of its own, from the first moment on: it is made in a directory that is closed to
 * others, and moved to its place. One that a dead node left is replaced.
 * @returns how to take it away again.
 * @throws {BusyError} SOCKET_IN_USE when a live process answers on it; {UnusableError} when another user could replace it.
 */
export async function listenOn(server: FastifyInstance, socket: string, mode: number): Promise<() => Promise<void>> {
  const directory = dirname(socket);
  await mkdir(directory, { recursive: true, mode: 0o755 });
  checkPath(await realpath(directory));
  if (await answers(socket)) throw new BusyError(`another process listens on ${socket}`, { code: "SOCKET_IN_USE" });
  // Inside, since nothing else may be ours to write; short, since a socket's path has 107 bytes at most.
  const closed = await mkdtemp(`${directory}/.`);
  try {
    const draft = join(closed, basename(socket).slice(0, 1));
    await server.listen({ path: draft });
    await chmod(draft, mode);
    await rename(draft, socket);
  } finally {
    await rm(closed, { recursive: true, force: true });
  }
  return () => unlink(socket).catch(() => undefined);
}

/** Whether somebody accepts connections on a Unix socket. */
function answers(socket: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const connection = connect(socket);
  connection.once("connect", () => resolve(true));
  connection.once("error", () => resolve(false));
  return promise.finally(() => connection.destroy());
}
