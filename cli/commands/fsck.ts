import { type Command, Option } from "commander";
import { type FsckWish, TreeDamagedError } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { withCache } from "../session.ts";

export function addFsck(parent: Command, run: Run): void {
  const command = parent
    .command("fsck")
    .description("Check the bookkeeping of cache and state; verify compares the files themselves.")
    .addOption(new Option("--repair", "mend what is wrong; what is damaged is fetched from peers and origins"))
    .addOption(new Option("--rebuild", "make the node's database anew, from what lies in the cache"))
    .addHelpText("after", "\nExample:\n  p2pcache fsck --repair")
    .action((options: FsckWish, self: Command) => run(self, (context) => fsck(context, options)));
  addSharedFlags(command);
}

async function fsck(context: Context, { repair = false, rebuild = false }: FsckWish): Promise<void> {
  const { out } = context;
  const { settings } = context.settings();
  const ask = { needsSources: repair };
  const { checked, faults, left } = await withCache(context, settings, (cache) => cache.fsck({ repair, rebuild }), ask);
  const wrong = left ?? faults;
  out.result("fsck", { checked, faults, ...(left === undefined ? {} : { left }) }, () => [...wrong]);
  out.note(`${checked} checked, ${faults.length} faults${left === undefined ? "" : `, ${left.length} left`}`);
  if (wrong.length === 0) return;
  const hint = repair ? "see the node's log, and that a peer or an origin can be reached" : "p2pcache fsck --repair";
  out.fail(new TreeDamagedError(`${wrong.length} faults in ${settings.cache.path}`, { code: "FSCK_FAULTS", hint }));
}
