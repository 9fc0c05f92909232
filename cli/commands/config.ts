import type { Command } from "commander";
import { checkSettings, settingsReference, showSettings, showSettingsJson, UsageError } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";

export function addConfig(parent: Command, run: Run): void {
  const group = parent
    .command("config")
    .description("Show and check the configuration.")
    .addHelpText("after", "\nExample:\n  p2pcache config show");
  const showing = group
    .command("show")
    .description("Print every setting as it holds here.")
    .option("--origin", "say where each value comes from")
    .addHelpText("after", "\nExample:\n  p2pcache config show --origin")
    .action((options: { origin?: boolean }, self: Command) =>
      run(self, (context) => show(context, { origin: options.origin === true })),
    );
  const checking = group
    .command("check")
    .description("Say what would keep a node from running, what has no effect, and which files are not there.")
    .addHelpText("after", "\nExample:\n  p2pcache config check --config ./config.toml")
    .action((_options: object, self: Command) => run(self, check));
  const listing = group
    .command("reference")
    .description("Print every key with its meaning and default, as a table in Markdown.")
    .addHelpText("after", "\nExample:\n  p2pcache config reference")
    .action((_options: object, self: Command) => run(self, reference));
  addSharedFlags(group);
  addSharedFlags(listing);
  addSharedFlags(showing, ["origin"]);
  addSharedFlags(checking);
}

async function show({ settings, out }: Context, options: { readonly origin: boolean }): Promise<void> {
  const loaded = settings();
  const { schema: _schema, ...shown } = showSettingsJson(loaded, options);
  out.result("config", shown, () => showSettings(loaded, options));
}

async function reference({ out }: Context): Promise<void> {
  const { keys, lines } = settingsReference();
  out.list("config-reference", "keys", keys, () => lines);
}

async function check({ settings, flags, out }: Context): Promise<void> {
  const loaded = settings();
  const problems = await checkSettings(loaded);
  // What was said while the settings were read is not said again, but stands in the JSON.
  const said = new Set(flags.quiet === true ? [] : loaded.warnings);
  const unsaid = problems.filter(({ key, message }) => key !== undefined || !said.has(message));
  out.list("config-check", "problems", problems, () =>
    unsaid.map(({ severity, key, message, hint }) => {
      const text = `${severity}: ${key === undefined ? "" : `${key}: `}${message}`;
      return hint === undefined ? text : `${text} (${hint})`;
    }),
  );
  const errors = problems.filter(({ severity }) => severity === "error");
  const [first] = errors;
  if (first === undefined) return;
  const more = errors.length > 1 ? `, and ${errors.length - 1} more` : "";
  out.fail(
    new UsageError(`with this configuration a node does not run: ${first.message}${more}`, {
      ...(first.hint === undefined ? {} : { hint: first.hint }),
      details: { errors: errors.length },
    }),
  );
}
