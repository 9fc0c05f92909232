import type { Command } from "commander";
import { type ApiRemoval, formatBytes, P2pCacheError } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { readHandles } from "../handles.ts";
import { withCache } from "../session.ts";

export function addRm(parent: Command, run: Run): void {
  const command = parent
    .command("rm")
    .description("Take variants off this machine; running programs lose their files.")
    .argument("<handle...>", "what to remove: as for fetch")
    .addHelpText("after", "\nExample:\n  p2pcache rm studio:maya-2025.3")
    .action((handles: string[], _options: object, self: Command) => run(self, (context) => rm(context, handles)));
  addSharedFlags(command);
}

async function rm(context: Context, words: readonly string[]): Promise<void> {
  const { out } = context;
  const { settings } = context.settings();
  const things = (await readHandles(context, settings, words)).map(({ thing }) => thing);
  const removals = await withCache(context, settings, (cache) => cache.remove(things));
  const removed = removals.filter(({ outcome }) => outcome === "removed");
  out.list("rm", "variants", removals.map(shown), () => removed.map(({ path }) => path ?? ""));
  for (const removal of removals) if (removal.outcome === "failed") out.fail(failure(removal));
  const bytes = removed.reduce((sum, removal) => sum + removal.bytes, 0);
  out.note(`${removed.length} removed, ${formatBytes(bytes)}`);
}

function shown({ handle, variant, payload, path, bytes, outcome, error }: ApiRemoval): object {
  const reason = error === undefined ? {} : { reason: error.message };
  return { handle, variant, payload: payload ?? null, path: path ?? null, bytes, outcome, ...reason };
}

function failure({ handle, error }: ApiRemoval): P2pCacheError {
  const { code = "INTERNAL", exit = 1, message = "it failed", hint, details } = error ?? {};
  return new P2pCacheError(code, exit as P2pCacheError["exit"], message, {
    ...(hint === undefined ? {} : { hint }),
    details: { ...details, handle },
  });
}
