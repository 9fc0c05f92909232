import { type Command, Option } from "commander";
import type { SettingFlags } from "../node/index.ts";

/** The flags that every command takes, before or after its name. */
export interface SharedFlags extends SettingFlags {
  readonly json?: "object" | "lines";
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  /** False with `--no-progress`. */
  readonly progress?: boolean;
  /** True with `--color`, false with `--no-color`. */
  readonly color?: boolean;
}

/** Adds the shared flags; `except` names those whose words mean something else to this command. */
export function addSharedFlags(command: Command, except: readonly string[] = []): Command {
  command.optionsGroup("Flags of every command:");
  for (const option of sharedOptions()) {
    if (!except.includes(option.attributeName())) command.addOption(option);
  }
  return command;
}

/** What was typed for a command, on either side of its name; what stands nearer to the end of the line wins. */
export function flagsOf(command: Command): SharedFlags {
  const flags: Record<string, unknown> = {};
  for (let each: Command | null = command; each !== null; each = each.parent) {
    for (const [name, value] of Object.entries(each.opts())) {
      // Commander fills in defaults at every level: only what was typed counts.
      if (each.getOptionValueSource(name) !== "cli" || !sharedNames.has(name) || name in flags) continue;
      // `config show` has an --origin of its own, without a value.
      if (name !== "origin" || typeof value === "string") flags[name] = value;
    }
  }
  return flags;
}

/** `--json` alone would take the next word as its value. */
export function withPlainJson(argv: readonly string[]): string[] {
  const end = argv.indexOf("--");
  return argv.map((word, at) => (word === "--json" && (end < 0 || at < end) ? "--json=object" : word));
}

/** The flags for a node that this command starts, so that it has the same settings. */
export function settingWords(flags: SettingFlags): string[] {
  const words: string[] = [];
  for (const name of ["config", "cache", "state", "socket", "origin", "peers", "timeout", "key"] as const) {
    const value = flags[name];
    if (value !== undefined) words.push(`--${name}=${value}`);
  }
  for (const text of [flags.repository ?? []].flat()) words.push(`--repository=${text}`);
  return words;
}

function sharedOptions(): Option[] {
  return [
    new Option("--config <file>", "configuration to read, instead of the user's and the system's"),
    new Option("--cache <directory>", "Rez's package cache: cache.path"),
    new Option("--state <directory>", "keys, index and logs of the node: node.state"),
    new Option("--socket <path>", "the node's Unix socket: node.socket"),
    new Option("--origin <policy>", "ask the origin: auto, limited or never"),
    new Option("--peers <policy>", "ask and serve peers: auto or never"),
    new Option("--timeout <time>", 'deadline of one fetch, as "90 s" or "30 min"'),
    new Option("--repository <id=path>", "where a repository is mounted; may be repeated").argParser(
      (text: string, before: string[] = []) => [...before, text],
    ),
    new Option("--key <file>", "the publisher's key: publish.key"),
    new Option("--json [shape]", "print JSON: one object, or lines for a list").choices(["object", "lines"]),
    new Option("-q, --quiet", "print no messages and no progress"),
    new Option("-v, --verbose", "say more, also where an internal error arose"),
    new Option("--no-progress", "print no progress"),
    new Option("--color", "print colours even where it is no terminal"),
    new Option("--no-color", "print no colours"),
  ];
}

const sharedNames: ReadonlySet<string> = new Set(sharedOptions().map((option) => option.attributeName()));
