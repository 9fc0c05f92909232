/** How much a line of `doctor` matters: with a failure something does not work. */
export type CheckLevel = "ok" | "warning" | "failure";

/** One thing that was looked at, and what was found. */
export interface CheckLine {
  /** Fixed, for programs: `disk`, `repository studio`. */
  readonly check: string;
  readonly level: CheckLevel;
  /** One line that names the thing. */
  readonly message: string;
  /** What to do about it, one line. */
  readonly hint?: string;
}

/** A check finds lines one by one, so that those before a disk that hangs are told. */
export type CheckLines = Iterable<CheckLine> | AsyncIterable<CheckLine>;

export function ok(check: string, message: string): CheckLine {
  return { check, level: "ok", message };
}

export function warning(check: string, message: string, hint?: string): CheckLine {
  return { check, level: "warning", message, ...(hint === undefined ? {} : { hint }) };
}

export function failure(check: string, message: string, hint?: string): CheckLine {
  return { check, level: "failure", message, ...(hint === undefined ? {} : { hint }) };
}

/** The line for a check that could not be made. */
export function broken(check: string, error: unknown): CheckLine {
  const reason = error instanceof Error ? error.message : String(error);
  if (error instanceof Error && "syscall" in error) {
    return failure(check, `it cannot be looked at: ${reason}`, "run this as the user that runs the node");
  }
  return failure(check, `the check itself failed: ${reason}`, "report it as a fault of p2pcache");
}
