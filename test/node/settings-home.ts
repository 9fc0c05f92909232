import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import { type LoadedSettings, type LoadOptions, loadSettings } from "../../node/settings/load.ts";
import { UsageError } from "../../protocol/errors.ts";

/** A suite whose every test has a home directory of its own. */
export function homeSuite(name: string): Test<{ home: string }> {
  const test = suite<{ home: string }>(name);
  test.before.each(async (context) => {
    // Short, since sockets lie below it.
    context.home = await realpath(await mkdtemp(join(tmpdir(), "p2p-")));
  });
  test.after.each(async (context) => {
    await rm(context.home, { recursive: true, force: true });
  });
  return test;
}

export const publicKey = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/** A user in a directory of its own, with a runtime directory and no system file. */
export function load(home: string, options: Partial<LoadOptions> = {}): LoadedSettings {
  const env = { XDG_RUNTIME_DIR: join(home, "run"), ...options.env };
  return loadSettings({ systemFile: join(home, "etc.toml"), home, ...options, env });
}

/** Writes the user's file and loads it. */
export async function loadToml(
  home: string,
  toml: string,
  options: Partial<LoadOptions> = {},
): Promise<LoadedSettings> {
  await put(userFile(home), toml);
  return load(home, options);
}

export function userFile(home: string): string {
  return join(home, ".config", "p2pcache", "config.toml");
}

export async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

/** The usage error of a load that must fail. */
export async function refused(work: () => unknown): Promise<UsageError> {
  try {
    await work();
  } catch (error) {
    assert.instance(error, UsageError, String(error));
    assert.not.match((error as UsageError).message, "\n");
    return error as UsageError;
  }
  throw new Error("it was not refused");
}
