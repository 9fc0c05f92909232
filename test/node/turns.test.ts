import { test } from "uvu";
import * as assert from "uvu/assert";
import { Turns } from "../../node/turns.ts";

const never = new AbortController().signal;

test("no more work at a time than there are turns, and who came first goes first", async () => {
  const turns = new Turns(2);
  const [first, second] = [await turns.take(never), await turns.take(never)];
  const order: string[] = [];
  const third = turns.take(never).then((end) => {
    order.push("third");
    return end;
  });
  const fourth = turns.take(never).then((end) => {
    order.push("fourth");
    return end;
  });
  assert.equal(order, []);
  second();
  const endThird = await third;
  assert.equal(order, ["third"]);
  first();
  endThird();
  (await fourth)();
  assert.equal(order, ["third", "fourth"]);
});

test("a turn that is given back twice counts once", async () => {
  const turns = new Turns(1);
  const end = await turns.take(never);
  end();
  end();
  await turns.take(never);
  const later = new AbortController();
  const waiting = turns.take(later.signal);
  later.abort(new Error("gave up"));
  assert.is(await waiting.catch((error: Error) => error.message), "gave up");
});

test("who gives up while waiting takes no turn along", async () => {
  const turns = new Turns(1);
  const end = await turns.take(never);
  const impatient = new AbortController();
  const gone = turns.take(impatient.signal).catch((error: Error) => error.message);
  impatient.abort(new Error("gave up"));
  assert.is(await gone, "gave up");
  end();
  (await turns.take(never))();
  assert.is(await turns.take(impatient.signal).catch((error: Error) => error.message), "gave up");
});

test.run();
