import type { Command } from "commander";
import { type NamedThing, UsageError, unpublish, type Variant, variantText, type Withdrawn } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { doEach } from "../each.ts";
import { addSharedFlags } from "../flags.ts";
import { readHandles } from "../handles.ts";
import { atMounts, timeoutOf } from "../mounts.ts";

export function addUnpublish(parent: Command, run: Run): void {
  const command = parent
    .command("unpublish")
    .description("Take releases back: nobody fetches them any more, and nodes drop them at their next look.")
    .argument("<handle...>", "the variants, as in fetch")
    .option("--reason <text>", "why, in one line: shown to whoever asks for it", "")
    .addHelpText(
      "after",
      '\nExample:\n  p2pcache unpublish studio:foo-1.0.0 --reason "it crashes on start, use 1.0.1"\n\n' +
        "A publish after it releases the variant anew, as the revision after the withdrawal; --supersede is not needed.",
    )
    .action((handles: string[], { reason }: { reason: string }, self: Command) =>
      run(self, (context) => unpublishAll(context, handles, reason)),
    );
  addSharedFlags(command);
}

async function unpublishAll(context: Context, handles: readonly string[], reason: string): Promise<void> {
  const { settings } = context.settings();
  const named = await readHandles(context, settings, handles);
  const variants = named.map(({ thing, typed }) => variantOf(thing, typed));
  const done: object[] = [];
  try {
    await doEach(context, variants, async (variant) => {
      const limits = { what: variantText(variant), timeoutMs: timeoutOf(context, settings) };
      const onWarning = (message: string) => context.out.warn(message);
      const withdrawn = await atMounts(context, limits, (signal) =>
        unpublish(settings, { variant, reason, onWarning, signal }),
      );
      done.push(shown(withdrawn));
      if (!context.out.json) context.out.result("unpublish", {}, () => [plain(variant, withdrawn)]);
    });
  } finally {
    if (context.out.json) {
      const [one] = done;
      if (variants.length > 1) context.out.list("unpublish", "withdrawn", done, () => []);
      else if (one !== undefined) context.out.result("unpublish", one, () => []);
    }
  }
}

function variantOf(thing: NamedThing, typed: string): Variant {
  if (thing.kind === "variant") return thing.variant;
  throw new UsageError(`${typed} names no package, and only packages are published`);
}

function shown({ variant, payload, revision, reason, isNew }: Withdrawn): object {
  return { variant, payload, revision, reason, outcome: isNew ? "withdrawn" : "already-withdrawn" };
}

function plain(variant: Variant, { revision, isNew }: Withdrawn): string {
  const what = isNew ? "withdrawn" : "was withdrawn already";
  return `${variantText(variant)}: ${what}, revision ${revision}`;
}
