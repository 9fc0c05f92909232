import type { Command } from "commander";
import type { Run } from "../context.ts";
import { doEach } from "../each.ts";
import { addSharedFlags } from "../flags.ts";
import { readHandles } from "../handles.ts";
import { withCache } from "../session.ts";

export function addPin(parent: Command, run: Run): void {
  add(parent, run, "pin", "Keep held variants on this machine until they are unpinned, whatever the lists say.");
}

export function addUnpin(parent: Command, run: Run): void {
  add(parent, run, "unpin", "Let pinned variants go again when room is needed.");
}

function add(parent: Command, run: Run, verb: "pin" | "unpin", description: string): void {
  const command = parent
    .command(verb)
    .description(description)
    .argument("<handle...>", "as for fetch")
    .addHelpText("after", `\nExample:\n  p2pcache ${verb} studio:maya-2026.1`)
    .action((handles: string[], _options: object, self: Command) =>
      run(self, async (context) => {
        const { settings } = context.settings();
        const things = (await readHandles(context, settings, handles)).map(({ thing }) => thing);
        const done: { handle: string; variant: string }[] = [];
        const ask = (cache: Parameters<Parameters<typeof withCache>[2]>[0]) =>
          doEach(context, things, async (thing) => void done.push(await cache.keeping[verb](thing)));
        await withCache(context, settings, ask);
        context.out.list(verb, "variants", done, () => done.map(({ handle }) => handle));
      }),
    );
  addSharedFlags(command);
}
