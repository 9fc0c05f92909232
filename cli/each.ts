import type { Context } from "./context.ts";

/**
 * Does the same for each of several things, one after the other. What goes wrong with one is told, decides the exit code
 * if it is the first, and does not keep the others from their turn; with a single one it is thrown. An interrupt ends all.
 */
export async function doEach<Item>(
  { out, signal }: Context,
  items: readonly Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  for (const item of items) {
    signal.throwIfAborted();
    try {
      await work(item);
    } catch (error) {
      if (items.length === 1 || signal.aborted) throw error;
      out.fail(error);
    }
  }
}
