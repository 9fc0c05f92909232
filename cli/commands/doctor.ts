import type { Command } from "commander";
import { type CheckLine, doctor, P2pCacheError } from "../../node/index.ts";
import { type Context, type Run, readVersion } from "../context.ts";
import { addSharedFlags } from "../flags.ts";

export function addDoctor(parent: Command, run: Run): void {
  const command = parent
    .command("doctor")
    .description(
      "Look at all that a node needs on this machine, and say what is wrong and what to do; nothing is changed.",
    )
    .option("--rez-config <file>", "Rez's configuration to compare with, instead of what `rez-config` says here")
    .addHelpText("after", "\nExample:\n  p2pcache doctor --rez-config /sw/rez/rezconfig.py")
    .action((options: { rezConfig?: string }, self: Command) =>
      run(self, (context) => examine(context, options.rezConfig)),
    );
  addSharedFlags(command);
}

async function examine({ flags, out }: Context, rezConfig: string | undefined): Promise<void> {
  const checks = await doctor({ flags, version: readVersion(), ...(rezConfig === undefined ? {} : { rezConfig }) });
  const failures = checks.filter(({ level }) => level === "failure").length;
  const warnings = checks.filter(({ level }) => level === "warning").length;
  const width = Math.max(...checks.map(({ check }) => check.length));
  const show = (line: CheckLine) => plainLines(line, width, (text) => out.paint(colors[line.level], text));
  if (flags.json === "lines") out.list("doctor", "checks", checks, () => []);
  else out.result("doctor", { checks, ok: failures === 0 }, () => checks.flatMap(show));
  out.note(`${checks.length} checks, ${failures} failures, ${warnings} warnings`);
  if (failures === 0) return;
  const message = `${failures} of ${checks.length} checks failed`;
  out.fail(new P2pCacheError("DOCTOR_FAILURES", 1, message, { details: { failures, warnings } }));
}

/** The finding, and below it what to do. */
function plainLines(
  { check, level, message, hint }: CheckLine,
  width: number,
  paint: (text: string) => string,
): string[] {
  const line = `${paint(level.padEnd(7))}  ${check.padEnd(width)}  ${oneLine(message)}`;
  return hint === undefined ? [line] : [line, `${" ".repeat(width + 11)}${oneLine(hint)}`];
}

/** Names of the disk stand in messages: none may move the cursor or pretend to be another line. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ");
}

const colors = { ok: "bold", warning: "yellow", failure: "red" } as const;
