#!/usr/bin/env node
// Plain, old JavaScript: it must run on any Node to be able to say which one is needed.
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { join } from "node:path";

const needed = 24;
const major = Number(process.versions.node.split(".")[0]);
if (major < needed) {
  process.stderr.write(
    `p2pcache needs Node ${needed} or newer, and this is Node ${process.versions.node}: install one, or run it by npx or npm run in a checkout\n`,
  );
  process.exit(1);
}
// Compiled code is kept in the user's own directory: it halves the time to the first line.
const { HOME, XDG_CACHE_HOME } = process.env;
const codeCache = XDG_CACHE_HOME || (HOME && join(HOME, ".cache"));
if (codeCache) nodeModule.enableCompileCache(join(codeCache, "p2pcache-code"));
if (process.argv.includes("run") && process.argv.includes("node")) tuneMemory();

// What touches mounts runs in a process of its own, which can be left behind: `apart` waits for it.
const dashes = process.argv.indexOf("--");
const isApart = touchesMounts(process.argv.slice(2, dashes < 0 ? undefined : dashes)) && !process.env.P2PCACHE_APART;
const name = isApart ? "apart" : "main";
const built = new URL(`../dist/cli/${name}.js`, import.meta.url);
const source = new URL(`./${name}.ts`, import.meta.url);
const { main } = await import((existsSync(source) ? source : built).href);
await main(process.argv.slice(2));

/**
 * A node moves payloads through buffers of 0.5 to 2 MiB. glibc keeps those that were freed, in an arena for each thread,
 * and V8 lets the garbage that holds them pile up: together 100 MB and more. Both can be told not to only before a
 * process starts, so this one starts itself anew, in place, under the same pid.
 */
function tuneMemory() {
  const flag = "--max-semi-space-size=2";
  if (process.execArgv.includes(flag) || process.execve === undefined) return;
  const limits = { MALLOC_ARENA_MAX: "2", MALLOC_MMAP_THRESHOLD_: "262144", MALLOC_TRIM_THRESHOLD_: "262144" };
  const words = [process.execPath, ...process.execArgv, flag, ...process.argv.slice(1)];
  process.execve(process.execPath, words, { ...limits, ...process.env });
}

/** Too often yes is no harm: the command does the same either way. */
function touchesMounts(words) {
  const has = (word) => words.includes(word);
  if (has("keepalive") && has("sign")) return true;
  if (has("trust") || has("rotate")) return true;
  return has("publish") || has("unpublish") || (has("origin") && has("gc")) || (has("ls") && has("--origin"));
}
