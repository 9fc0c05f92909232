import type { SettingKey } from "./schema.ts";
import { tomlText } from "./show.ts";
import { settingKeys } from "./table.ts";

/** Values by key, as `settingKeys` names them; of an origin its fields, of repositories `repositories.<id>`. */
export type ChosenValues = ReadonlyMap<string, unknown>;

/** A configuration with every key, its meaning and its default: those that were chosen hold, the others are comments. */
export function configTemplate(chosen: ChosenValues): string {
  const keys = settingKeys();
  const groups = new Map<string, SettingKey[]>();
  for (const known of keys) {
    const group = groupOf(known.key);
    // Of origins the fields say all.
    if (known.key !== "origin") groups.set(group, [...(groups.get(group) ?? []), known]);
  }
  const top = groups.get("") ?? [];
  groups.delete("");
  // In TOML what stands before the first table belongs to none.
  const sections = [headLines, ...top.map((known) => keyLines(known, known.key, chosen))];
  for (const [group, members] of groups) sections.push(groupLines(group, members, chosen));
  return `${sections.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

function groupLines(group: string, members: readonly SettingKey[], chosen: ChosenValues): string[] {
  if (group === "repositories") return repositoryLines(members[0]!, chosen);
  if (group !== "origin") {
    return [`[${group}]`, ...spaced(members.map((known) => keyLines(known, nameOf(known), chosen)))];
  }
  const hasOrigin = [...chosen.keys()].some((key) => key.startsWith("origin."));
  const lines = spaced(members.map((known) => keyLines(known, nameOf(known), chosen)));
  const head = ["# Repositories of last resort, in order of preference; each has a table like this one."];
  return [...head, hasOrigin ? "[[origin]]" : "# [[origin]]", ...lines];
}

function repositoryLines(known: SettingKey, chosen: ChosenValues): string[] {
  const lines = ["[repositories]", ...comment(known)];
  const ids = [...chosen].filter(([key]) => key.startsWith("repositories."));
  for (const [key, value] of ids) lines.push(`${idText(key.slice("repositories.".length))} = ${tomlText(value)}`);
  return ids.length > 0 ? lines : [...lines, '# studio = "/mnt/sw/packages"'];
}

function keyLines(known: SettingKey, name: string, chosen: ChosenValues): string[] {
  const { key, default: fallback } = known;
  const value = chosen.get(key);
  if (value !== undefined) return [...comment(known), `${name} = ${tomlText(value)}`];
  return [...comment(known), `# ${name} =${fallback === undefined ? "" : ` ${tomlText(fallback)}`}`];
}

function comment({ description, defaultText, expected, default: fallback }: SettingKey): string[] {
  const lines = [`# ${description}`];
  if (fallback === undefined) lines.push(`# Default: ${defaultText}. Written as: ${expected.example}`);
  return lines;
}

function spaced(entries: readonly (readonly string[])[]): string[] {
  return entries.flatMap((lines, at) => (at === 0 ? lines : ["", ...lines]));
}

function groupOf(key: string): string {
  const dot = key.indexOf(".");
  return dot < 0 ? "" : key.slice(0, dot);
}

function nameOf({ key }: SettingKey): string {
  return key.slice(key.indexOf(".") + 1);
}

function idText(id: string): string {
  return /^[A-Za-z0-9_-]+$/.test(id) ? id : JSON.stringify(id);
}

const headLines = [
  "# The configuration of p2pcache on this machine. What is a comment holds its default.",
  "# `p2pcache config check` says whether it holds together, `p2pcache config show --origin` what holds and why.",
];
