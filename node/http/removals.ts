import type { NamedThing } from "../../protocol/handle-text.ts";
import { type ApiNode, type ApiRemoval, errorShape, namedText } from "./api-types.ts";

/** Removes one after the other: each waits for Rez's lock, and one that must stay does not keep the others. */
export async function removeAll(
  node: Pick<ApiNode, "remove" | "hashOf">,
  things: readonly NamedThing[],
  signal: AbortSignal,
): Promise<ApiRemoval[]> {
  const removals = new Map<string, ApiRemoval>();
  for (const thing of things) {
    const key = JSON.stringify(thing);
    if (!removals.has(key)) removals.set(key, await removeOne(node, thing, signal));
  }
  return [...removals.values()];
}

async function removeOne(
  node: Pick<ApiNode, "remove" | "hashOf">,
  thing: NamedThing,
  signal: AbortSignal,
): Promise<ApiRemoval> {
  try {
    return { ...(await node.remove(thing, { signal })), outcome: "removed" };
  } catch (cause) {
    const variant = thing.kind === "payload" ? "" : node.hashOf(thing);
    const handle = namedText(thing);
    const error = errorShape(cause);
    return { handle, variant, payload: undefined, path: undefined, bytes: 0, outcome: "failed", error };
  }
}
