import { chmodSync, closeSync, lchownSync, openSync, readdirSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ourselves, unprivilegedUser } from "./runner-user.ts";

/** A tmpfs that a process of a test sees at a path. */
export interface OwnDisk {
  readonly path: string;
  readonly bytes?: number;
  readonly inodes?: number;
  /** What mount(8) is told besides: `ro`, `noexec`. */
  readonly options?: readonly string[];
}

const checkout = join(import.meta.dirname, "..", "..");
const unprivilegedId = 65534;

/**
 * Whether this test may mount; if not, prints a line that the runner counts. Nothing can be installed that would help,
 * so that it is no error in the gate either.
 */
export function mayMount(): boolean {
  if (process.getuid?.() === 0) return true;
  process.stdout.write("skipped: tests with a disk of their own need root, which starts their nodes as nobody\n");
  return false;
}

/**
 * Words before a command: it runs as nobody, in a mount namespace of its own with these disks, which go with its last
 * process. The files of a disk are seen from outside below `insideOf(pid)`.
 */
export function onOwnDisks(disks: readonly OwnDisk[]): string[] {
  const mounts = disks.map(({ path, bytes = 64e6, inodes = 100_000, options = [] }) => {
    const all = [`size=${bytes}`, `nr_inodes=${inodes}`, "mode=0755", `uid=${unprivilegedId}`, `gid=${unprivilegedId}`];
    return `mount -t tmpfs -o ${[...all, ...options].join(",")} p2pcache-test '${path}'`;
  });
  const script = [...mounts, 'exec "$@"'].join(" && ");
  return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", ...asNobody()];
}

/** Words before a command that nobody runs. */
export function asNobody(): readonly string[] {
  const user = unprivilegedUser(checkout);
  return user === ourselves ? [] : user.prefix;
}

/** A path as a process sees it. */
export function insideOf(pid: number, path: string): string {
  return join("/proc", `${pid}`, "root", path);
}

/** Gives a tree to nobody, and lets that user come to it. */
export function giveToNobody(path: string): void {
  // The runner's directory for this test file is for its user alone.
  chmodSync(tmpdir(), 0o755);
  for (const below of ["", ...(readdirSync(path, { recursive: true }) as string[])]) {
    lchownSync(join(path, below), unprivilegedId, unprivilegedId);
  }
}

/** Takes all bytes, or all inodes, that a disk has left. @returns how to give them back. */
export function fillDisk(directory: string, what: "bytes" | "inodes"): () => void {
  const made: string[] = [];
  try {
    for (let i = 0; ; i++) {
      const path = join(directory, `.ballast${i}`);
      const file = openSync(path, "wx");
      made.push(path);
      try {
        while (what === "bytes") writeSync(file, new Uint8Array(64 * 1024));
      } finally {
        closeSync(file);
      }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  }
  return () => {
    for (const path of made) rmSync(path);
  };
}
