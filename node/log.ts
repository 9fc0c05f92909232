import { P2pCacheError } from "../protocol/errors.ts";
import type { LogEvent, LogLevel, logEvents } from "./log-events.ts";
import { withoutSecrets } from "./redact.ts";

export { type LogEvent, type LogLevel, logEvents } from "./log-events.ts";

/**
 * Takes one event: a name out of `logEvents` with the level that stands there, and facts. Secrets in them are hidden, which
 * is no reason to log any. Never throws.
 */
export type Log = <Event extends LogEvent>(
  level: (typeof logEvents)[Event]["level"],
  event: Event,
  facts?: Readonly<Record<string, unknown>>,
) => void;

export type LogFormat = "json" | "pretty";

export interface LogOptions {
  /** One JSON object a line, or lines for people. */
  readonly format: LogFormat;
  /** What matters less is left out. */
  readonly level: LogLevel;
  readonly colors?: boolean;
  /** Takes a line with its end. */
  readonly write: (line: string) => void;
}

/** A log that is open: its level may change while it is. */
export interface OpenLog {
  readonly log: Log;
  level: LogLevel;
}

/** Opens a log. Each line is written when it is logged, so that none is lost at the end. Loads pino, which takes a while. */
export async function openLog(options: LogOptions): Promise<OpenLog> {
  const { pino, stdTimeFunctions } = await import("pino");
  const { format, colors = false, write } = options;
  const prettify = format === "pretty" ? await prettifier(colors) : undefined;
  const logger = pino(
    {
      level: options.level,
      base: { pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line) => write(prettify === undefined ? line : prettify(line)) },
  );
  const log: Log = (level, event, facts = {}) =>
    logger[level as LogLevel]({ event, ...(withoutSecrets(facts) as object) });
  return {
    log,
    get level() {
      return logger.level as LogLevel;
    },
    set level(level) {
      logger.level = level;
    },
  };
}

export const noLog: Log = () => undefined;

/** `[2026-07-01 09:00:00] INFO: peer-joined peer="…" name="ws02"`, on one line. */
async function prettifier(colors: boolean): Promise<(line: string) => string> {
  const { default: pretty } = await import("pino-pretty");
  return pretty.prettyFactory({
    colorize: colors,
    hideObject: true,
    // What pino-pretty would put before the text; `name` is a fact of ours.
    ignore: "pid,hostname,name",
    messageFormat: lineText,
    translateTime: "SYS:yyyy-mm-dd HH:MM:ss",
  });
}

/** Names come from outside: none may move the cursor or pretend to be another line. */
function lineText({ level: _, time: __, pid: ___, event, ...facts }: Record<string, unknown>): string {
  const words = Object.entries(facts).map(([name, fact]) => `${name}=${JSON.stringify(fact)}`);
  return [String(event), ...words].join(" ").replaceAll(/\p{Cc}+/gu, " ");
}

/** What a line of the log says of an error. */
export function errorFacts(error: unknown): { readonly code: string; readonly exit: number; readonly message: string } {
  if (error instanceof P2pCacheError) return error;
  return { code: "INTERNAL", exit: 1, message: error instanceof Error ? error.message : String(error) };
}
