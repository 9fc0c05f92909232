import { test } from "uvu";
import * as assert from "uvu/assert";
import { MIB } from "../../protocol/limits.ts";
import { Politeness } from "../../protocol/politeness.ts";
import { defaultServiceLimits, Service, type ServiceRequest } from "../../protocol/service.ts";
import { TokenBucket } from "../../protocol/token-bucket.ts";

test("a bucket lets its burst through, then its rate", () => {
  const bucket = new TokenBucket(100, 1000);
  assert.is(bucket.take(1000, 0), true);
  assert.is(bucket.take(1, 0), false);
  assert.is(bucket.readyAtMs(0), 0.01);
  assert.is(bucket.take(500, 5), true);
  assert.is(bucket.take(1, 5), false, "a pause of 5 ms gives 500 bytes");
});

test("an item larger than the burst passes, and is paid for after", () => {
  const bucket = new TokenBucket(100, 1000);
  assert.is(bucket.take(5000, 0), true);
  assert.is(bucket.take(1, 39), false);
  assert.is(bucket.take(1, 41), true);
});

test("over a long time the rate holds, whatever is asked for and when", () => {
  const bucket = new TokenBucket(10, 100);
  let passed = 0;
  for (let ms = 0; ms < 10_000; ms += 3) if (bucket.take(77, ms)) passed += 77;
  assert.ok(passed <= 10 * 10_000 + 100 + 77 && passed > 99_000, String(passed));
});

test("a rate of nothing stops everything, and an infinite one nothing", () => {
  const bucket = new TokenBucket(0, 10);
  assert.is(bucket.take(10, 0), true);
  assert.is(bucket.take(1, 1e9), false);
  assert.is(bucket.readyAtMs(1e9), Number.POSITIVE_INFINITY);
  bucket.setRate(Number.POSITIVE_INFINITY, 1e9);
  assert.is(bucket.take(1e12, 1e9), true);
});

test("time that goes back changes nothing", () => {
  const bucket = new TokenBucket(1, 10);
  bucket.take(10, 100);
  assert.is(bucket.take(1, 50), false);
  assert.is(bucket.take(1, 101), true);
});

test("a class that has used up its rate does not hold up one that has none", () => {
  const politeness = new Politeness({ prefetch: 1 });
  assert.is(politeness.take("prefetch", 5 * MIB, 0), true);
  assert.is(politeness.take("prefetch", 1, 0), false);
  assert.is(politeness.take("interactive", 5 * MIB, 0), true);
  politeness.setRates({}, 1);
  assert.is(politeness.take("prefetch", 1, 1), true);
});

test("a service with rates waits for them if that is not for long, and says until when", () => {
  const request = (item: number): ServiceRequest => {
    return { peer: "a", stream: 1, number: 0, item, sizeBytes: 4 * MIB, traffic: "repair" };
  };
  const service = new Service(defaultServiceLimits, new Politeness({ repair: 4096 }));
  const first = service.step({ kind: "requested", requests: [request(0), request(1)] }, 0);
  assert.equal(
    first.map(({ kind }) => kind),
    ["send", "wakeAt"],
  );
  assert.equal(
    service.step({ kind: "woke" }, 0.1).map(({ kind }) => kind),
    ["send"],
  );
  assert.equal(
    service.step({ kind: "requested", requests: [request(2)] }, 1).map(({ kind }) => kind),
    ["refuse"],
  );
  assert.equal(
    service.step({ kind: "requested", requests: [request(2)] }, 2000).map(({ kind }) => kind),
    ["send"],
  );
});

test.run();
