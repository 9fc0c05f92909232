/**
 * The same value without secrets: passwords and tokens in URLs, authorization headers, private keys, and whatever stands
 * under a name that says so. Errors become their messages. What is nested deeper than anybody logs is cut off.
 */
export function withoutSecrets(value: unknown, depth = 0): unknown {
  if (typeof value === "string") return textWithoutSecrets(value);
  if (value instanceof Error) return textWithoutSecrets(value.message);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return value;
  if (depth >= depthMax) return "…";
  if (Array.isArray(value)) return value.map((each) => withoutSecrets(each, depth + 1));
  const entries =
    value instanceof Map ? [...value] : value instanceof Set ? [...value].entries() : Object.entries(value);
  const shown: Record<string, unknown> = {};
  for (const [name, member] of entries) {
    shown[String(name)] = secretName.test(String(name)) ? hidden : withoutSecrets(member, depth + 1);
  }
  return shown;
}

/** The user and password of every URL in a text replaced by `***`. */
export function withoutUrlUsers(text: string): string {
  return text.replaceAll(urlUser, `//${hidden}@`);
}

function textWithoutSecrets(text: string): string {
  return withoutUrlUsers(text)
    .replaceAll(headers, `$1 ${hidden}`)
    .replaceAll(queries, `$1${hidden}`)
    .replaceAll(privateKeys, hidden);
}

const hidden = "***";
const depthMax = 6;
/** `key` alone, and everything that has one of these words in it; `publisherKeyId` and its like are no secrets. */
const secretName = /^key$|passw|secret|token|credential|authorization|privatekey|private_key/i;
/** `https://user:password@host`, and a user alone: tokens are often given so. An `@` in a password need not be escaped. */
const urlUser = /\/\/[^/\s"]*@/g;
const headers = /\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}/gi;
const queries = /([?&](?:[\w-]*(?:token|secret|password|signature|credential)|key|sig)=)[^&\s"']+/gi;
const privateKeys = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;
