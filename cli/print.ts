import { styleText } from "node:util";
import { type ErrorShape, errorShape, P2pCacheError } from "../node/index.ts";
import type { SharedFlags } from "./flags.ts";

/** Where a command's words go: data to stdout, messages to stderr. Remembers what the process is to exit with. */
export class Output {
  readonly #flags: SharedFlags;
  readonly #colorful: boolean;
  #exitCode: number | undefined;

  constructor(flags: SharedFlags) {
    this.#flags = flags;
    this.#colorful = flags.color ?? (process.stderr.isTTY === true && !process.env.NO_COLOR);
  }

  get json(): boolean {
    return this.#flags.json !== undefined;
  }

  /** Whether each object of a list has a line of its own. */
  get jsonLines(): boolean {
    return this.#flags.json === "lines";
  }

  /** Whether progress may be shown: never between the JSON of errors. */
  get showsProgress(): boolean {
    return this.#flags.quiet !== true && this.#flags.progress !== false && !this.json;
  }

  /** Of the first failure; 0 without one. */
  get exitCode(): number {
    return this.#exitCode ?? 0;
  }

  /** One answer: an object with its schema, or the lines for people. */
  result(verb: string, fields: object, plain: () => readonly string[]): void {
    if (this.json) printLine(JSON.stringify({ schema: schemaOf(verb), ...fields }));
    else for (const line of plain()) printLine(line);
  }

  /** A list: one object, one object a line with `--json=lines`, or the lines for people. */
  list(verb: string, name: string, items: readonly object[], plain: () => readonly string[]): void {
    if (this.#flags.json !== "lines") this.result(verb, { [name]: items }, plain);
    else for (const item of items) printLine(JSON.stringify({ schema: schemaOf(verb), ...item }));
  }

  /** A message for people; programs that read JSON get none. */
  note(text: string): void {
    if (this.#flags.quiet !== true && !this.json) process.stderr.write(`${oneLine(text)}\n`);
  }

  warn(text: string): void {
    if (this.#flags.quiet === true) return;
    const plain = `p2pcache: ${this.paint("yellow", "warning:")} ${oneLine(text)}`;
    process.stderr.write(`${this.json ? JSON.stringify({ warning: { message: text } }) : plain}\n`);
  }

  /** Prints an error. The first one decides what the process exits with. */
  fail(error: unknown): void {
    this.#exitCode ??= errorShape(error).exit;
    process.stderr.write(this.errorText(error));
    if (this.#flags.verbose === true && !(error instanceof P2pCacheError)) process.stderr.write(`${stackOf(error)}\n`);
  }

  /** What a program that was run has ended with. */
  exitWith(code: number): void {
    if (code !== 0) this.#exitCode ??= code;
  }

  /** An error as `fail` prints it. */
  errorText(error: unknown): string {
    const shape = errorShape(error);
    return this.json ? `${JSON.stringify({ error: shownError(shape) })}\n` : this.#plainError(shape);
  }

  paint(color: "red" | "green" | "yellow" | "bold", text: string): string {
    return this.#colorful ? styleText(color, text, { validateStream: false }) : text;
  }

  #plainError({ message, hint }: ErrorShape): string {
    const line = `${this.paint("red", "p2pcache:")} ${oneLine(message)}\n`;
    return hint === undefined ? line : `${line}  ${oneLine(hint)}\n`;
  }
}

/** Columns of equal width, the last one ragged; numbers are put right by `right`. */
export function columns(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, at) => (right.includes(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

/** As CONTRACTS has it: the hint is one of the details. */
function shownError({ code, message, exit, hint, details }: ErrorShape): object {
  return { code, message, exit, details: { ...details, ...(hint === undefined ? {} : { hint }) } };
}

function schemaOf(verb: string): string {
  return `p2pcache/${verb}/1`;
}

function printLine(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Names come from outside: none may move the cursor or pretend to be another line. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ").trimEnd();
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
