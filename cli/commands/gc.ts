import type { Command } from "commander";
import { type ApiKept, formatBytes, P2pCacheError, UsageError } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { readHandles } from "../handles.ts";
import { columns } from "../print.ts";
import { withCache } from "../session.ts";

export function addGc(parent: Command, run: Run): void {
  const command = parent
    .command("gc")
    .description(
      "Make room on this machine, down to the low watermark, and say for every variant why it stays or goes.",
    )
    .option("--dry-run", "only say what would go")
    .addHelpText("after", "\nExample:\n  p2pcache gc --dry-run")
    .action((options: { dryRun?: boolean }, self: Command) =>
      run(self, (context) => gc(context, options.dryRun === true)),
    );
  addSharedFlags(command);
}

export function addExplain(parent: Command, run: Run): void {
  const command = parent
    .command("explain")
    .description("Say why a variant is kept on this machine, or would go.")
    .argument("<handle...>", "as for fetch")
    .addHelpText("after", "\nExample:\n  p2pcache explain studio:maya-2026.1")
    .action((handles: string[], _options: object, self: Command) => run(self, (context) => explain(context, handles)));
  addSharedFlags(command);
}

async function gc(context: Context, dryRun: boolean): Promise<void> {
  const { out } = context;
  const { settings } = context.settings();
  const { freedBytes, lines, missing } = await withCache(context, settings, ({ keeping }) => keeping.gc({ dryRun }));
  if (out.jsonLines) out.list("gc", "variants", lines, () => []);
  else
    out.result("gc", { dryRun, freedBytes, variants: lines, missing: missing ?? null }, () => columns(lines.map(row)));
  const gone = lines.filter(({ outcome }) => outcome === "removed" || outcome === "goes");
  out.note(`${gone.length} ${dryRun ? "would go" : "removed"}, ${formatBytes(freedBytes)}`);
  for (const { handle, outcome, reason } of lines) {
    if (outcome === "failed") out.fail(new P2pCacheError("BUSY", 8, `${handle} could not be removed: ${reason}`));
  }
  if (missing === undefined) return;
  out.fail(
    new P2pCacheError("NO_SPACE", 7, `the cache is too full still: ${missing} are missing`, {
      hint: "unpin or end what uses them, shorten the keep-alive lists, or raise the limits",
    }),
  );
}

function row({ handle, bytes, reason }: ApiKept): string[] {
  return [handle, formatBytes(bytes), reason];
}

async function explain(context: Context, words: readonly string[]): Promise<void> {
  const { settings } = context.settings();
  const things = (await readHandles(context, settings, words)).map(({ thing }) => thing);
  if (things.length === 0) throw new UsageError("no handle is named");
  const found: ApiKept[] = [];
  await withCache(context, settings, async ({ keeping }) => {
    for (const thing of things) {
      try {
        found.push(await keeping.explain(thing));
      } catch (error) {
        if (things.length === 1 || !(error instanceof P2pCacheError)) throw error;
        context.out.fail(error);
      }
    }
  });
  context.out.list("explain", "variants", found, () => found.map(({ handle, reason }) => `${handle} ${reason}`));
}
