import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import {
  type NamedThing,
  P2pCacheError,
  parseHandleText,
  parseRxt,
  realRepositories,
  type Settings,
  UsageError,
} from "../node/index.ts";
import type { Context } from "./context.ts";

/** What was meant, and the words that were typed for it. */
export interface Named {
  readonly typed: string;
  readonly thing: NamedThing;
}

/**
 * Reads handles as users type them (DESIGN section 3): text, `-` for JSON from stdin, or `.rxt` files with all their
 * variants. What cannot be cached of a context is reported, and left out.
 * @throws {UsageError} that says what was understood.
 */
export async function readHandles(context: Context, settings: Settings, words: readonly string[]): Promise<Named[]> {
  const named: Named[] = [];
  for (const word of words) {
    if (word === "-") named.push(...(await handlesFromStdin(settings)));
    else if (word.endsWith(".rxt")) named.push(...handlesOfContext(context, await resolved(settings), word));
    else named.push({ typed: word, thing: await parseTyped(word, settings) });
  }
  return named;
}

/** The same settings with the real paths of repositories, which are what Rez's own handles have. */
export async function resolved(settings: Settings): Promise<Settings> {
  return { ...settings, repositories: await realRepositories(settings.repositories) };
}

/** One handle as it was typed. Mounts are looked at only where what is written does not tell: one of them may hang. */
export async function parseTyped(word: string, settings: Settings): Promise<NamedThing> {
  try {
    return parseHandleText(word, settings.repositories);
  } catch (error) {
    const mayBeReal =
      /^\s*[/{]/.test(word) && error instanceof P2pCacheError && error.code === "REPOSITORY_NOT_CONFIGURED";
    if (!mayBeReal) throw error;
    return parseHandleText(word, await realRepositories(settings.repositories));
  }
}

/** A handle as JSON has it: text, or Rez's object. `settings` are `resolved`. @throws {UsageError} */
export function parseJsonHandle(handle: unknown, settings: Settings): NamedThing {
  return parseHandleText(typeof handle === "string" ? handle : JSON.stringify(handle ?? null), settings.repositories);
}

/** @throws {UsageError} for what is not JSON. */
export async function readJsonFromStdin(): Promise<unknown> {
  const typed = await text(process.stdin);
  try {
    return JSON.parse(typed);
  } catch (cause) {
    throw new UsageError(`stdin is not JSON: ${(cause as Error).message}`, { cause });
  }
}

async function handlesFromStdin(settings: Settings): Promise<Named[]> {
  const handles = [await readJsonFromStdin()].flat();
  const known = await resolved(settings);
  return handles.map((handle) => ({ typed: "stdin", thing: parseJsonHandle(handle, known) }));
}

function handlesOfContext(context: Context, settings: Settings, path: string): Named[] {
  const { variants, skipped, caching } = parseRxt(readJsonFile(path), settings.repositories);
  if (!caching) context.out.note(`${path} was made without package cache; its variants are fetched all the same`);
  for (const { text: handle, reason } of skipped) context.out.note(`${path}: ${handle} is left out: ${reason}`);
  return variants.map((variant) => ({ typed: path, thing: { kind: "variant", variant } }));
}

function readJsonFile(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? "is not JSON" : `cannot be read: ${(cause as Error).message}`;
    throw new UsageError(`the context ${path} ${reason}`, { cause });
  }
}
