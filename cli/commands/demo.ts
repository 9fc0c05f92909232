import type { Command } from "commander";
import type { Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";

export function addDemo(parent: Command, run: Run): void {
  const command = parent
    .command("demo")
    .description("Publish two real trees of this checkout, and fetch them by five nodes on this machine.")
    .option("--keep", "leave the nodes running, and say how to look at them")
    .addHelpText("after", "\nExample:\n  p2pcache demo --json")
    .action((options: { keep?: boolean }, self: Command) =>
      run(self, async (context) => {
        const { runDemo } = await import("../demo/run-demo.ts");
        await runDemo(context, { keep: options.keep === true });
      }),
    );
  addSharedFlags(command);
}
