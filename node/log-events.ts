/** How much a line of the log matters. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Every event that is ever logged: its name for programs, how much it matters, and what it means. */
export const logEvents = {
  "node-started": { level: "info", text: "The node answers on its sockets; its id, cache and addresses." },
  "node-stopped": { level: "info", text: "The node has let go of cache and state." },
  "fetch-asked": { level: "debug", text: "Somebody asks for a variant." },
  "fetch-ended": { level: "info", text: "A variant was brought here, or left out for a reason; bytes by source." },
  "fetch-local": { level: "debug", text: "A variant that was asked for is here already." },
  "fetch-failed": { level: "warn", text: "A variant could not be had; code and reason of the error." },
  "variant-placed": { level: "info", text: "A variant lies where Rez finds it, and is announced." },
  "variant-removed": { level: "info", text: "Somebody had a variant taken off this disk." },
  "variant-evicted": {
    level: "info",
    text: "A variant was taken off this disk to make room, or for its age, and why.",
  },
  "eviction-failed": { level: "warn", text: "A variant that should go could not be taken off, or no plan was made." },
  "cache-too-full": { level: "warn", text: "All has gone that may, and the cache or its disk is too full still." },
  "lists-refused": { level: "warn", text: "A keep-alive list was not believed, and why; the last one stays in force." },
  "prefetch-failed": { level: "warn", text: "What a list wants here beforehand could not be had; it is tried again." },
  "variant-withdrawn": {
    level: "info",
    text: "A held variant was taken off this disk, since its publisher withdrew it.",
  },
  "withdrawn-variant-stays": { level: "warn", text: "A withdrawn variant could not be taken off yet, and why." },
  "variant-voided": {
    level: "warn",
    text: "A held variant was taken off this disk: denied, or released by a key that was revoked; who says so, and when.",
  },
  "voided-variant-stays": { level: "error", text: "Such a variant could not be taken off yet, and why." },
  "policy-followed": { level: "info", text: "A newer policy of the network is in force; its version, and from where." },
  "policy-refused": { level: "error", text: "A source has a policy that is not as it should be, and why." },
  "policy-root-trusted": {
    level: "warn",
    text: "A policy's root is trusted without an older one that leads to it: first contact, or a reset.",
  },
  "policy-ending": { level: "warn", text: "The policy comes to its end, or has: an admin has to sign it anew." },
  "records-conflict": { level: "warn", text: "An origin's record contradicts the one of that revision seen before." },
  "holding-damaged": { level: "error", text: "A held tree is gone or not what was released; it is served no more." },
  "variant-repaired": {
    level: "info",
    text: "A damaged tree is right again, and announced; where its bytes came from.",
  },
  "repair-failed": { level: "warn", text: "A damaged tree could not be repaired yet, and why; it is tried again." },
  "scrub-failed": { level: "error", text: "What is held cannot be looked at any more, until the next start." },
  "store-problem": { level: "warn", text: "Something in cache or state was mended, or could not be." },
  "verify-failed": { level: "error", text: "What an unclean end left in doubt could not be checked." },
  "peer-joined": { level: "info", text: "A peer was let in." },
  "peer-left": { level: "info", text: "A peer has gone." },
  "peer-refused": { level: "warn", text: "A peer was not let in, and why." },
  "peer-misbehaves": {
    level: "warn",
    text: "A peer gave what is wrong, gave nothing, or broke the protocol: what it did, its strikes and standing.",
  },
  "bootstrap-unreachable": { level: "warn", text: "A peer of node.bootstrap does not answer; it is tried again." },
  "origin-ok": { level: "info", text: "An origin that was unsteady or down answers again, or for the first time." },
  "origin-unsteady": { level: "warn", text: "An origin has failed once, and why." },
  "origin-down": { level: "warn", text: "An origin keeps failing, and why; it is tried again now and then." },
  "origin-silent": { level: "warn", text: "A folder's mount seems to hang: the process that read it was abandoned." },
  "discovery-fault": { level: "warn", text: "Neighbours cannot be looked for on some interface; said once." },
  "settings-reloaded": {
    level: "info",
    text: "The configuration was read again; the keys that changed, now in force.",
  },
  "settings-need-restart": {
    level: "warn",
    text: "Keys of the configuration that changed take effect at the next start.",
  },
  "settings-refused": { level: "error", text: "The new configuration cannot be used; the old one stays in force." },
} as const;

/** The name of an event; nothing else can be logged. */
export type LogEvent = keyof typeof logEvents;

/** The table of events for the docs, in Markdown, one line each. */
export function logReference(): string[] {
  const events: Readonly<Record<string, { readonly level: LogLevel; readonly text: string }>> = logEvents;
  const rows = Object.entries(events).map(([event, { level, text }]) => `| \`${event}\` | ${level} | ${text} |`);
  return ["| event | level | what it says |", "| --- | --- | --- |", ...rows];
}
