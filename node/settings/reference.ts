import type { SettingKey } from "./schema.ts";
import { settingKeys } from "./table.ts";

/** Every key for a reference page: the facts, and a table in Markdown whose first two lines are its head. */
export function settingsReference(): { readonly keys: readonly object[]; readonly lines: readonly string[] } {
  const keys = settingKeys();
  const rows = keys.map(({ key, description, defaultText, expected }) => {
    const cells = [`\`${keyText(key)}\``, description, defaultText, `\`${expected.example}\``];
    return `| ${cells.map(escaped).join(" | ")} |`;
  });
  return {
    keys: keys.map(facts),
    lines: ["| key | meaning | default | example |", "| --- | --- | --- | --- |", ...rows],
  };
}

/** No cell ends early, and nothing is taken for a tag. */
function escaped(cell: string): string {
  return cell.replaceAll("|", "\\|").replaceAll(/<(?=[^`]*$)/g, "&lt;");
}

/** The fields of an origin stand in a table of their own. */
function keyText(key: string): string {
  return key.startsWith("origin.") ? key.replace("origin.", "[[origin]] ") : key;
}

function facts({ key, kind, description, default: fallback, defaultText }: SettingKey): object {
  return { key, kind, description, ...(fallback === undefined ? {} : { default: fallback }), defaultText };
}
