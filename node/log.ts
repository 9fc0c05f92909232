/** How much a line of the log matters. */
export type LogLevel = "info" | "warn" | "error";

/** Takes one event: a fixed name for programs, facts for people. Never secrets. */
export type Log = (level: LogLevel, event: string, facts?: Readonly<Record<string, unknown>>) => void;

/** One JSON object a line. */
export function jsonLog(write: (line: string) => void, now: () => Date): Log {
  return (level, event, facts = {}) =>
    write(`${JSON.stringify({ time: now().toISOString(), level, event, ...facts })}\n`);
}

export const noLog: Log = () => undefined;
