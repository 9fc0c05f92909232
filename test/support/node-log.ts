import { setTimeout as sleep } from "node:timers/promises";
import type { RunningNode } from "./studio.ts";

/** A line of a node's log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly event?: string };

/** All that a node has logged, in order. */
function logLines(node: RunningNode): LogLine[] {
  return node
    .log()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as LogLine);
}

/** Waits until a node has logged an event for the `times`-th time. Answers that line. */
export async function logged(node: RunningNode, event: string, times = 1): Promise<LogLine> {
  const untilMs = performance.now() + 20_000;
  for (;;) {
    const found = logLines(node).filter((line) => line.event === event);
    if (found.length >= times) return found[times - 1]!;
    if (performance.now() > untilMs) throw new Error(`${event} was not logged:\n${node.log()}`);
    await sleep(20);
  }
}
