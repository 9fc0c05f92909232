import type { Command } from "commander";
import { collectOrigin, formatBytes, type OriginGc, parseDuration } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { atMounts, timeoutOf } from "../mounts.ts";

interface GcFlags {
  readonly dryRun?: boolean;
  readonly minAge: string;
}

export function addOrigin(parent: Command, run: Run): void {
  const group = parent
    .command("origin")
    .description("Look after the origin that releases go to.")
    .addHelpText("after", "\nExample:\n  p2pcache origin gc --dry-run");
  const collecting = group
    .command("gc")
    .description("Remove from the origin what no release needs any more; records stay.")
    .option("--dry-run", "only say what would go")
    .option("--min-age <time>", "what was written, used or replaced since then stays", "7 d")
    .addHelpText(
      "after",
      '\nExample:\n  p2pcache origin gc --min-age "30 d"\n\n' +
        "Of each variant the newest release that trust.publishers have signed is kept whole. A publish that takes longer\n" +
        "than the age floor may lose what it wrote first.",
    )
    .action((flags: GcFlags, self: Command) => run(self, (context) => collect(context, flags)));
  addSharedFlags(group);
  addSharedFlags(collecting);
}

async function collect(context: Context, { dryRun = false, minAge }: GcFlags): Promise<void> {
  const { settings } = context.settings();
  const { out } = context;
  const minAgeMs = parseDuration("--min-age", minAge);
  const onWarning = (message: string) => out.warn(message);
  const limits = { what: "origin gc", timeoutMs: timeoutOf(context, settings) };
  const done = await atMounts(context, limits, (signal) =>
    collectOrigin(settings, { dryRun, minAgeMs, onWarning, signal }),
  );
  out.result("origin-gc", { dryRun, ...done }, () => plain(done, dryRun));
}

function plain(
  { origin, variants, releases, objects, leftovers, directories, young, kept }: OriginGc,
  dryRun: boolean,
) {
  const what = `${objects.count} chunks and segments (${formatBytes(objects.bytes)})`;
  const rest = `${leftovers.count} leftovers (${formatBytes(leftovers.bytes)}), ${directories} empty directories`;
  return [
    `${origin}: ${dryRun ? "would remove" : "removed"} ${what}, ${rest}`,
    `${origin}: kept ${kept.count} chunks and segments of ${releases} releases of ${variants} variants (${formatBytes(kept.bytes)}), and ${young.count} young ones (${formatBytes(young.bytes)})`,
  ];
}
