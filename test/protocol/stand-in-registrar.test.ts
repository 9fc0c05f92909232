import { test } from "uvu";
import * as assert from "uvu/assert";
import type { PayloadId } from "../../protocol/hash.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { RegisterQuestion } from "../../protocol/register-messages.ts";
import { Registrar } from "../../protocol/registrar.ts";
import { bits, groups, leased, payload, question, reported, scene } from "../support/registrar-scene.ts";

test("where it takes long to bring a group, one holder is given several times as long to spread it", () => {
  const { ask } = scene();
  const [group] = leased(ask("slow", 0, { held: bits(0), wants: 1 }));
  for (let nowMs = 1_000; nowMs < 4_000; nowMs += 1_000) {
    ask("slow", nowMs, { held: bits(0), wants: 0, leases: [{ group: group!, arrived: nowMs / 1_000 }] });
  }
  ask("slow", 4_000, { held: bits(0, group!), wants: 0 });
  const all = Array.from({ length: groups }, (_, i) => i).filter((other) => other !== group);
  const lacking = { held: bits(...all), lacking: [group!] };
  // It got two groups in 4 s, of which one is its alone.
  assert.equal(leased(ask("a", 11_900, lacking)), [], "it is on its way");
  assert.equal(leased(ask("a", 12_100, lacking)), [group]);
});

test("who idles before it takes a lease, or says once that something came, gains no time for what it does not give", () => {
  for (const counts of [[1], [1, 2]]) {
    const { ask } = scene();
    ask("liar", 0, { wants: 0 });
    const [, group] = leased(ask("liar", 8_000));
    for (const [i, arrived] of counts.entries()) {
      ask("liar", 8_010 + 10 * i, { wants: 0, leases: [{ group: group!, arrived }] });
    }
    ask("liar", 8_050, { held: bits(group!), wants: 0 });
    const others = Array.from({ length: groups }, (_, i) => i).filter((other) => other !== group);
    assert.equal(leased(ask("a", 13_150, { held: bits(...others), lacking: [group!] })), [group]);
  }
});

test("a registrar that others come before is careful anew when it is asked again after a while", () => {
  const registrar = new Registrar(seededRandom(1), { isFirstFor: () => false });
  const ask = (from: string, nowMs: number) => leased(registrar.ask(from, payload, question(), nowMs)!);
  ask("early", 0);
  registrar.left("early", 10);
  assert.is([...ask("a", 20_000), ...ask("b", 20_010), ...ask("c", 20_020)].length, 4);
});

test("whether a registrar is the first is looked up only where that matters", () => {
  let looks = 0;
  const isFirstFor = () => {
    looks++;
    return true;
  };
  const registrar = new Registrar(seededRandom(1), { isFirstFor });
  for (let i = 0; i < 100; i++) registrar.ask("liar", String(i).padStart(64, "0") as PayloadId, question(), i);
  assert.is(looks, 0);
});

test("a registrar that others come before leases little at first, but what is under way already", () => {
  const registrar = new Registrar(seededRandom(1), { isFirstFor: () => false });
  const ask = (from: string, nowMs: number, more: Partial<RegisterQuestion> = {}) =>
    leased(registrar.ask(from, payload, question(more), nowMs)!);
  const taken = [...ask("a", 0), ...ask("b", 10)];
  assert.is(taken.length, 4);
  assert.equal(ask("c", 20), [], "the first may only be slow");
  const [free] = [0, 1, 2, 3, 4, 5].filter((group) => !taken.includes(group));
  assert.equal(ask("c", 30, { leases: reported([free!]), wants: 0 }), [free], "the first gave it");
  assert.is(ask("c", 3_000, { leases: reported([free!]) }).length, 2, "the first has gone");
});

test.run();
