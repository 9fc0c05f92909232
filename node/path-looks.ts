import { spawn } from "node:child_process";
import { once } from "node:events";

/** What lies at a path, with its links resolved. */
export type PathLook =
  | { readonly kind: "directory" | "other"; readonly realPath: string }
  /** The system said no: ENOENT and the like. */
  | { readonly kind: "failed"; readonly code: string }
  /** Nothing was said in time: a mount on the way hangs. */
  | { readonly kind: "silent" };

/**
 * Looks at paths that may lie on mounted filers. A child process does it, since a mount that hangs blocks whoever
 * touches it, for ever, and would keep this process from ending; one that says nothing in time is left behind.
 */
export async function lookAtPaths(paths: readonly string[], waitMs: number): Promise<ReadonlyMap<string, PathLook>> {
  const looks = new Map<string, PathLook>(paths.map((path) => [path, { kind: "silent" }]));
  if (looks.size === 0) return looks;
  const env = { UV_THREADPOOL_SIZE: `${Math.min(64, Math.max(4, looks.size))}` };
  const words = ["-e", program, "--", ...looks.keys()];
  const child = spawn(process.execPath, words, { cwd: "/", env, stdio: ["ignore", "pipe", "ignore"] });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    said += part;
  });
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, waitMs);
  // Without a child nothing was looked at.
  await Promise.race([once(child, "close").catch(() => undefined), late]);
  clearTimeout(timer);
  child.kill("SIGKILL");
  child.stdout.destroy();
  child.unref();
  for (const line of said.split("\n").slice(0, -1)) {
    const [path, look] = JSON.parse(line) as [string, PathLook];
    looks.set(path, look);
  }
  return looks;
}

/** Plain JavaScript, run by whatever Node runs us: one line for each path, as soon as it is known. */
const program = `
const { realpath, stat } = require("node:fs");
const say = (path, look) => process.stdout.write(JSON.stringify([path, look]) + "\\n");
for (const path of process.argv.slice(1)) {
  realpath.native(path, (error, realPath) => {
    if (error) return say(path, { kind: "failed", code: error.code });
    stat(realPath, (failure, stats) => {
      if (failure) return say(path, { kind: "failed", code: failure.code });
      say(path, { kind: stats.isDirectory() ? "directory" : "other", realPath });
    });
  });
}`;
