import type { Command } from "commander";
import { TreeDamagedError } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { readHandles } from "../handles.ts";
import { withCache } from "../session.ts";

export function addVerify(parent: Command, run: Run): void {
  const command = parent
    .command("verify")
    .description("Compare what this machine holds with its manifests, byte by byte.")
    .argument("[handle...]", "what to verify; everything when none is named")
    .addHelpText("after", "\nExample:\n  p2pcache verify studio:maya-2026.1")
    .action((handles: string[], _options: object, self: Command) => run(self, (context) => verify(context, handles)));
  addSharedFlags(command);
}

async function verify(context: Context, words: readonly string[]): Promise<void> {
  const { out } = context;
  const { settings } = context.settings();
  const named = await readHandles(context, settings, words);
  const things = named.map(({ thing }) => thing);
  const { checked, damaged } = await withCache(context, settings, (cache) => cache.verify(things));
  out.result("verify", { checked, damaged }, () => damaged.map(({ path, file, fault }) => `${path}/${file}: ${fault}`));
  out.note(`${checked} checked, ${damaged.length} damaged`);
  if (damaged.length === 0) return;
  const trees = [...new Set(damaged.map(({ path }) => path))];
  out.fail(
    new TreeDamagedError(`${damaged.length} files or directories are damaged in ${trees.join(", ")}`, {
      hint: "p2pcache fsck --repair fetches what is wrong of them; a node that runs does so by itself",
      details: { trees },
    }),
  );
}
