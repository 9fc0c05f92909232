import { chmod, lstat, mkdir, unlink } from "node:fs/promises";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { FastifyInstance } from "fastify";
import { BusyError, UnusableError } from "../../protocol/errors.ts";

/**
 * Makes the directory of a node's sockets, safe against other users: ours, and closed to them until the sockets have
 * their final modes.
 * @throws {UnusableError} when it belongs to somebody else.
 */
export async function prepareSocketDirectory(socket: string): Promise<void> {
  const directory = dirname(socket);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const { uid } = await lstat(directory);
  if (uid !== process.getuid?.()) throw new UnusableError(`the directory ${directory} belongs to another user`);
  await chmod(directory, 0o700);
}

/**
 * Listens on a Unix socket with a mode of its own. One that a dead node left is replaced.
 * @throws {BusyError} when a live process answers on it.
 */
export async function listenOn(server: FastifyInstance, socket: string, mode: number): Promise<void> {
  if (await answers(socket)) throw new BusyError(`another process listens on ${socket}`, { code: "SOCKET_IN_USE" });
  await unlink(socket).catch(() => undefined);
  await server.listen({ path: socket });
  await chmod(socket, mode);
}

/** All sockets have their modes: those whom the modes let in may come. */
export async function openSocketDirectory(socket: string): Promise<void> {
  await chmod(dirname(socket), 0o755);
}

/** Whether somebody accepts connections on a Unix socket. */
function answers(socket: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const connection = connect(socket);
  connection.once("connect", () => resolve(true));
  connection.once("error", () => resolve(false));
  return promise.finally(() => connection.destroy());
}
