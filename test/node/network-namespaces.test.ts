// deadline: 180 s
// alone
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import type { Variant } from "../../protocol/variant.ts";
import { needs } from "../support/needs.ts";
import { NetworkLab } from "../support/network-lab.ts";
import { type RunningNode, Studio } from "../support/studio.ts";
import { makeTree } from "../support/trees.ts";

/** How many machines, and how long one is cut off: the minute in the long form. */
const machines = 8;
const cutMs = process.env.P2PCACHE_LONG === undefined ? 20_000 : 60_000;

/** What a node says of its peers: how many it is connected to, and how much each peer of a name holds. */
interface View {
  readonly connected: number;
  readonly holdings: ReadonlyMap<string, number>;
}

const isPossible = needs("ip", "iproute2") && process.getuid?.() === 0;

if (isPossible) {
  test("eight machines that know only the network find each other, what they hold, and one that was cut off", async () => {
    await using studio = await Studio.open();
    for (let i = 1; i <= machines + 2; i++) {
      const source = join(studio.path, "source", `tool${i}`);
      makeTree(source, seededRandom(i), { smallFiles: 3, largeMib: 0 });
      await studio.publish(tool(i), source);
    }
    await using lab = await NetworkLab.open({ machines });
    // The bars are for a machine that does nothing else: eight nodes share it with whatever runs beside them.
    const slowness = Math.max(1, loadavg()[0]! / availableParallelism() / 2);
    const nodes = await Promise.all(
      lab.machines.map(({ number, inside }) => {
        const config = studio.configure(`machine${number}`, { listen: "/ip4/0.0.0.0/tcp/0", mdns: true });
        return studio.start(config, [], { prefix: inside });
      }),
    );
    const readyMs = performance.now();

    await each(nodes, 2_000 * slowness, "finds the others", ({ connected }) => connected === machines - 1);
    const foundMs = performance.now() - readyMs;

    await Promise.all(nodes.map((node, i) => fetch(node, i + 1)));
    const heldMs = performance.now();
    await each(nodes, 2_000 * slowness, "knows what they hold", (view) => holds(view, () => 1));
    const learntMs = performance.now() - heldMs;

    const last = nodes.at(-1)!;
    lab.cut(machines);
    const sinceMs = performance.now();
    await fetch(last, machines + 1);
    await fetch(nodes[0]!, machines + 2);
    await sleep(cutMs - (performance.now() - sinceMs));
    assert.is((await view(last)).connected, 0, "the one that was cut off has noticed");
    lab.heal(machines);
    const healedMs = performance.now();
    const held = (name: string) => (name === "machine1" || name === `machine${machines}` ? 2 : 1);
    await each(
      nodes,
      30_000 * slowness,
      "is right again",
      (view) => view.connected === machines - 1 && holds(view, held),
    );
    const rightMs = performance.now() - healedMs;
    // And what they know of each other is true: the origin is not asked for it.
    assert.is((await fetch(last, machines + 2, "never")).bytes.origin, 0);
    assert.is((await fetch(nodes[0]!, machines + 1, "never")).bytes.origin, 0);
    console.log(
      `found after ${foundMs.toFixed(0)} ms, learnt after ${learntMs.toFixed(0)} ms, ` +
        `right ${rightMs.toFixed(0)} ms after a cut of ${cutMs / 1_000} s; bars × ${slowness.toFixed(1)} for the load`,
    );
  });
}

function tool(number: number): Variant {
  return { kind: "rez", repository: "studio", name: `tool${number}`, version: "1.0" };
}

async function fetch(node: RunningNode, number: number, origin: "auto" | "never" = "auto") {
  const things = [{ kind: "variant", variant: tool(number) }] as const;
  const [result] = await node.client.fetch({ things, origin }, () => undefined, {});
  assert.is(result?.outcome, "fetched", JSON.stringify(result));
  return result!;
}

async function view(node: RunningNode): Promise<View> {
  const peers = await node.client.peers();
  return {
    connected: peers.filter(({ path }) => path === "stream").length,
    holdings: new Map(peers.map(({ name, holdings }) => [String(name), Number(holdings)])),
  };
}

function holds({ holdings }: View, expected: (name: string) => number): boolean {
  return holdings.size === machines - 1 && [...holdings].every(([name, count]) => count === expected(name));
}

/** Waits until every node sees what it should. @throws {Error} when one does not in time, with what it saw. */
async function each(
  nodes: readonly RunningNode[],
  withinMs: number,
  what: string,
  isSo: (view: View) => boolean,
): Promise<void> {
  const untilMs = performance.now() + withinMs;
  for (const [i, node] of nodes.entries()) {
    let seen = await view(node);
    while (!isSo(seen)) {
      if (performance.now() > untilMs) {
        const saw = JSON.stringify({ connected: seen.connected, holdings: [...seen.holdings] });
        throw new Error(
          `machine${i + 1} ${what} not within ${withinMs} ms, but sees ${saw}: ${node.log().slice(-2_000)}`,
        );
      }
      await sleep(50);
      seen = await view(node);
    }
  }
}

test.run();
