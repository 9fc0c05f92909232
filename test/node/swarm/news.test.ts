import { test } from "uvu";
import * as assert from "uvu/assert";
import { News } from "../../../node/swarm/news.ts";

/** News whose waits end when the test says so. */
function scene() {
  const told: string[] = [];
  const waits: { readonly ms: number; readonly end: () => void; hasStopped: boolean }[] = [];
  const news = new News<string>(
    (topic) => told.push(topic),
    (ms, end) => {
      const wait = { ms, end, hasStopped: false };
      waits.push(wait);
      return () => {
        wait.hasStopped = true;
      };
    },
  );
  return { news, told, waits };
}

test("the first is told at once, what comes within 30 ms after is told together", () => {
  const { news, told, waits } = scene();
  news.add("a");
  assert.equal(told, ["a"]);
  news.add("a");
  news.add("a");
  assert.equal([told.length, waits.length, waits[0]!.ms], [1, 1, 30]);
  waits[0]!.end();
  assert.equal(told, ["a", "a"]);
  news.add("a");
  assert.is(told.length, 2);
  waits[1]!.end();
  assert.is(told.length, 3);
});

test("after a pause the next is told at once again", () => {
  const { news, told, waits } = scene();
  news.add("a");
  waits[0]!.end();
  assert.is(waits.length, 1);
  news.add("a");
  assert.equal(told, ["a", "a"]);
});

test("one topic does not wait for another, and nothing is left after the end", () => {
  const { news, told, waits } = scene();
  news.add("a");
  news.add("b");
  assert.equal(told, ["a", "b"]);
  news.stop();
  assert.ok(waits.every(({ hasStopped }) => hasStopped));
});

test.run();
