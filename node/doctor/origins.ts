import { type CheckLine, failure, ok } from "./check-line.ts";

/** An origin as far as `doctor` uses it. */
export interface CheckedOrigin {
  readonly name: string;
  /** Its path or address, without a password. */
  readonly place: string;
  readonly policy: "auto" | "limited" | "never";
  /** Asks it for something that nobody has released. @throws a typed error when it cannot be asked. */
  readonly ask: () => Promise<unknown>;
}

/** Whether an origin answers, and is of our network. */
export async function* checkOrigin({ name, place, policy, ask }: CheckedOrigin): AsyncGenerator<CheckLine> {
  const check = `origin ${name}`;
  if (policy === "never") return yield ok(check, `${place} is never asked: its policy says so`);
  const startedMs = performance.now();
  try {
    await ask();
  } catch (error) {
    const { message, hint } = error as Error & { hint?: string };
    const what = message.includes(place) ? message : `${place}: ${message}`;
    return yield failure(check, what, hint ?? "mount it, correct the configuration, or publish once to make it");
  }
  yield ok(check, `${place} is a repository of our network, and answers within ${waitText(startedMs)}`);
}

function waitText(startedMs: number): string {
  return `${Math.max(1, Math.round(performance.now() - startedMs))} ms`;
}
