import type { Command } from "commander";
import { TreeDamagedError } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { withCache } from "../session.ts";

export function addFsck(parent: Command, run: Run): void {
  const command = parent
    .command("fsck")
    .description("Check the bookkeeping of cache and state; nothing is hashed or changed.")
    .addHelpText("after", "\nExample:\n  p2pcache fsck")
    .action((_options: object, self: Command) => run(self, fsck));
  addSharedFlags(command);
}

async function fsck(context: Context): Promise<void> {
  const { out } = context;
  const { settings } = context.settings();
  const { checked, faults } = await withCache(context, settings, (cache) => cache.fsck());
  out.result("fsck", { checked, faults }, () => faults);
  out.note(`${checked} checked, ${faults.length} faults`);
  if (faults.length === 0) return;
  out.fail(new TreeDamagedError(`${faults.length} faults in ${settings.cache.path}`, { code: "FSCK_FAULTS" }));
}
