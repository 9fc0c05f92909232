import type { Command } from "commander";
import { formatBytes, type HoldingShape } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { columns } from "../print.ts";
import { withCache } from "../session.ts";

export function addLs(parent: Command, run: Run): void {
  const command = parent
    .command("ls")
    .description("List what this machine holds.")
    .addHelpText("after", "\nExample:\n  p2pcache ls --json=lines")
    .action((_options: object, self: Command) => run(self, ls));
  addSharedFlags(command);
}

async function ls(context: Context): Promise<void> {
  const { settings } = context.settings();
  const holdings = await withCache(context, settings, (cache) => cache.holdings());
  context.out.list("ls", "holdings", holdings.map(shown), () => columns(holdings.map(row), [1, 2]));
}

/** As CONTRACTS has it. */
function shown({ name, version, variant, payload, path, bytes, files, lastUsed, state }: HoldingShape): object {
  return { name, version: version ?? null, variant, payload, path, bytes, files, lastUsed: lastUsed ?? null, state };
}

function row({ text, bytes, files, lastUsed, state, path }: HoldingShape): string[] {
  return [text, formatBytes(bytes), `${files} files`, lastUsed?.slice(0, 16).replace("T", " ") ?? "-", state, path];
}
