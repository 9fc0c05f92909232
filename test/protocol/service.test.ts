import { test } from "uvu";
import * as assert from "uvu/assert";
import { MIB } from "../../protocol/limits.ts";
import { Politeness, type TrafficClass } from "../../protocol/politeness.ts";
import { defaultServiceLimits, Service, type ServiceAction, type ServiceRequest } from "../../protocol/service.ts";

const limits = { slots: 2, slotsPerStreamMax: 100, sendingBytesMax: 1000, queuedPerStreamMax: 3 };
const request = (peer: string, item: number, sizeBytes = 100, stream = peer.charCodeAt(0)): ServiceRequest => {
  return { peer, stream, number: 0, item, sizeBytes };
};
const requested = (...requests: ServiceRequest[]) => ({ kind: "requested", requests }) as const;
const done = (one: ServiceRequest) => ({ kind: "done", request: one }) as const;

function sent(actions: readonly ServiceAction[]): string[] {
  return actions.flatMap((action) => (action.kind === "send" ? [`${action.request.peer}${action.request.item}`] : []));
}

function refused(actions: readonly ServiceAction[]): number[] {
  return actions.flatMap((action) => (action.kind === "refuse" ? action.requests.map(({ item }) => item) : []));
}

test("as many items are sent at a time as there are slots, and the next when one is done", () => {
  const service = new Service(limits);
  assert.equal(sent(service.step(requested(request("a", 0), request("a", 1), request("a", 2)))), ["a0", "a1"]);
  assert.equal(sent(service.step(done(request("a", 0)))), ["a2"]);
  assert.equal(service.step(done(request("a", 1))), []);
});

test("bytes that are being sent are bounded, and one item always goes", () => {
  const service = new Service({ ...limits, slots: 8 });
  assert.equal(sent(service.step(requested(request("a", 0, 5000), request("a", 1, 10)))), ["a0"]);
  assert.equal(sent(service.step(done(request("a", 0, 5000)))), ["a1"]);
});

test("what does not fit the queue of its stream is refused at once, to be asked again soon", () => {
  const service = new Service(limits);
  const actions = service.step(requested(...[0, 1, 2, 3, 4].map((item) => request("a", item))));
  assert.equal(refused(actions), [3, 4]);
  const [refusal] = actions.filter((action) => action.kind === "refuse");
  assert.ok(refusal!.retryAfterMs > 0 && refusal!.retryAfterMs <= 1000);
  assert.equal(refused(service.step(requested(request("b", 0)))), []);
});

test("an item that is waiting already is not queued twice", () => {
  const service = new Service(limits);
  service.step(requested(request("a", 0), request("a", 1)));
  assert.equal(service.step(requested(request("a", 2), request("a", 2))), []);
  assert.equal(sent(service.step(done(request("a", 0)))), ["a2"]);
  assert.equal(sent(service.step(done(request("a", 1)))), []);
});

test("what a peer wants of one payload does not wait behind what it wants of another", () => {
  const service = new Service({ ...limits, slots: 1, queuedPerStreamMax: 9 });
  const of = (payload: string, peer: string, item: number, peerItems: number) => ({
    ...request(peer, item),
    payload,
    peerItems,
  });
  service.step(requested(of("large", "b", 7, 3)));
  assert.equal(sent(service.step(requested(of("large", "a", 1, 50), of("large", "a", 2, 50)))), []);
  assert.equal(sent(service.step(requested(of("small", "a", 3, 0)))), ["a3"]);
});

test("what a peer got of one payload does not make it wait for another", () => {
  const service = new Service({ ...limits, slots: 1, queuedPerStreamMax: 9 });
  const of = (payload: string, peer: string, item: number) => ({ ...request(peer, item), payload });
  service.step(requested(of("one", "a", 0), of("one", "a", 1)));
  service.step(done(of("one", "a", 0)));
  service.step(requested(of("two", "b", 0)));
  service.step(requested(of("two", "c", 1), of("two", "a", 2), of("two", "c", 3)));
  assert.equal(sent(service.step(done(of("two", "b", 0)))), ["c1"]);
  assert.equal(sent(service.step(done(of("two", "c", 1)))), ["a2"]);
});

test("payloads that nobody waits for are forgotten, also where somebody always waits for another", () => {
  const service = new Service({ ...limits, slots: 1, slotsPerStreamMax: 1, queuedPerStreamMax: 9 });
  const of = (payload: string, peer: string, item: number) => ({ ...request(peer, item), payload });
  service.step(requested(of("waited for", "a", 0), of("waited for", "a", 1)));
  for (let i = 0; i < 1_000; i++) {
    service.step(requested(of(`payload ${i}`, "b", 0)));
    service.step(done(of(`payload ${i}`, "b", 0)));
  }
  assert.ok(service.payloads <= 65, `${service.payloads}`);
});

test("who got least goes first", () => {
  const service = new Service({ ...limits, slots: 1, queuedPerStreamMax: 9 });
  service.step(requested(...[0, 1, 2, 3].map((item) => request("a", item))));
  service.step(requested(request("b", 0), request("b", 1)));
  const order: string[] = [];
  let flying = request("a", 0);
  for (let i = 0; i < 5; i++) {
    const [action] = service.step(done(flying));
    if (action?.kind !== "send") break;
    flying = action.request;
    order.push(`${flying.peer}${flying.item}`);
  }
  assert.equal(order, ["b0", "a1", "b1", "a2", "a3"]);
});

test("several streams do not get a peer more than one", () => {
  const service = new Service({ ...limits, slots: 1, queuedPerStreamMax: 99 });
  const greedy = [1, 2, 3].flatMap((stream) => [0, 1, 2, 3].map((item) => request("a", item, 100, stream)));
  service.step(requested(...greedy));
  service.step(requested(...[0, 1, 2, 3].map((item) => request("b", item, 100, 9))));
  const order: string[] = [];
  let flying = greedy[0]!;
  for (let i = 0; i < 8; i++) {
    const [action] = service.step(done(flying));
    assert.ok(action?.kind === "send");
    flying = (action as { request: ServiceRequest }).request;
    order.push(flying.peer);
  }
  assert.is(order.filter((peer) => peer === "b").length, 4);
});

test("who comes late goes first once, but is not given all that the others ever got", () => {
  const service = new Service({ ...limits, slots: 1, queuedPerStreamMax: 999 });
  service.step(requested(...Array.from({ length: 500 }, (_, item) => request("a", item))));
  for (let item = 0; item < 200; item++) service.step(done(request("a", item)));
  service.step(requested(...Array.from({ length: 100 }, (_, item) => request("b", item))));
  const order: string[] = [];
  let flying = request("a", 200);
  for (let i = 0; i < 10; i++) {
    const [action] = service.step(done(flying));
    flying = (action as { request: ServiceRequest }).request;
    order.push(flying.peer);
  }
  assert.is(order.join(""), "bababababa");
});

test("what is cancelled is not sent, and its place is free", () => {
  const service = new Service(limits);
  service.step(requested(...[0, 1, 2].map((item) => request("a", item))));
  service.step({ kind: "cancelled", stream: 97, number: 1, items: [2] });
  service.step(requested(request("a", 3)));
  service.step({ kind: "cancelled", stream: 97, number: 0, items: [2, 77] });
  assert.equal(sent(service.step(done(request("a", 0)))), ["a3"]);
  service.step({ kind: "cancelled", stream: 5, number: 0, items: [1] });
});

test("of a stream that has left nothing more is sent, and the others go on", () => {
  const service = new Service(limits);
  service.step(requested(...[0, 1, 2].map((item) => request("a", item))));
  service.step(requested(request("b", 0)));
  assert.equal(service.step({ kind: "left", stream: 97 }), []);
  assert.equal(sent(service.step(done(request("a", 0)))), ["b0"]);
  assert.equal(service.step(done(request("a", 1))), []);
});

test("of a payload that a peer has left nothing more is sent, nor counted against its rate, and its others go on", () => {
  const service = new Service(limits, new Politeness({ interactive: 100 * 1024 }));
  const other = { ...request("a", 9), number: 1 };
  service.step(requested(request("a", 0, 5 * MIB), request("a", 1, 10 * MIB), other), 0);
  service.step({ kind: "left", stream: "a".charCodeAt(0), number: 0 }, 0);
  service.step(done(request("a", 0, 5 * MIB)), 0);
  assert.equal(sent(service.step({ kind: "woke" }, 11)), ["a9"]);
});

test("by default no more is sent at a time than a node may, nor fewer items than disks like", () => {
  assert.is(defaultServiceLimits.sendingBytesMax, 32 * 1024 * 1024);
  assert.ok(defaultServiceLimits.slots >= 8 && defaultServiceLimits.queuedPerStreamMax >= defaultServiceLimits.slots);
});

test("one stream cannot hold all slots: another one's item goes at once", () => {
  const service = new Service({ ...limits, slots: 4, slotsPerStreamMax: 2 });
  assert.equal(sent(service.step(requested(request("a", 0), request("a", 1), request("a", 2)))), ["a0", "a1"]);
  assert.equal(sent(service.step(requested(request("b", 0)))), ["b0"]);
  assert.equal(sent(service.step(done(request("a", 0)))), ["a2"]);
});

test("while a served item is rare, fewer are sent at a time, so that the first of them is there sooner", () => {
  const service = new Service({ ...limits, slots: 4, slotsWhileRare: 2 });
  const rare = (item: number) => ({ ...request("a", item), isRare: true });
  assert.equal(sent(service.step(requested(rare(0), request("b", 0), request("c", 0)))), ["a0", "b0"]);
  assert.equal(sent(service.step(done(rare(0)))), ["c0"]);
  assert.equal(sent(service.step(requested(request("d", 0), request("e", 0)))), ["d0", "e0"]);
});

test("every payload has slots of its own", () => {
  const service = new Service({ ...limits, slots: 1 });
  const of = (peer: string, payload: string) => ({ ...request(peer, 0), payload });
  assert.equal(sent(service.step(requested(of("a", "p"), of("b", "p"), of("c", "q")))), ["a0", "c0"]);
});

test("whoever has least of the payload goes first", () => {
  const service = new Service({ ...limits, slots: 1, queuedPerStreamMax: 9 });
  const from = (peer: string, item: number, peerItems: number) => ({ ...request(peer, item), peerItems });
  service.step(requested(from("a", 0, 9)));
  service.step(requested(from("a", 1, 9), from("b", 0, 7), from("c", 0, 2), from("c", 1, 8)));
  const order: string[] = [];
  let flying = from("a", 0, 9);
  for (let i = 0; i < 4; i++) {
    const [action] = service.step(done(flying));
    flying = (action as { request: typeof flying }).request;
    order.push(`${flying.peer}${flying.item}`);
  }
  assert.equal(order, ["c0", "b0", "c1", "a1"]);
});

test("a class that waits for its rate holds up no other one, on another stream or its own", () => {
  const wide = { ...limits, slots: 8, sendingBytesMax: 100 * MIB };
  const service = new Service(wide, new Politeness({ prefetch: 1, repair: 0 }));
  const of = (item: number, traffic: TrafficClass, peer = "a") => ({ ...request(peer, item, 4 * MIB), traffic });
  const first = service.step(requested(of(0, "prefetch"), of(1, "prefetch"), of(2, "interactive")), 0);
  assert.equal(sent(first), ["a0", "a2"]);
  assert.equal(
    first.flatMap((action) => (action.kind === "wakeAt" ? [action.atMs] : [])),
    [1],
  );
  assert.equal(sent(service.step(requested(of(3, "interactive", "b")), 0)), ["b3"]);
  assert.equal(sent(service.step({ kind: "woke" }, 1)), ["a1"]);
});

test("what its rate lets go soon waits; the rest is refused at once, and told when its turn would be", () => {
  const wide = { ...limits, slots: 8, sendingBytesMax: 100 * MIB, queuedPerStreamMax: 99 };
  // 10 KiB a millisecond: a MiB in about 100 ms.
  const service = new Service(wide, new Politeness({ prefetch: 10 * 1024 }));
  const of = (item: number, peer = "a") => ({ ...request(peer, item, MIB), traffic: "prefetch" as const });
  const asked = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((item) => of(item));
  const actions = service.step(requested(...asked), 0);
  assert.equal(sent(actions), ["a0", "a1", "a2", "a3"]);
  assert.equal(refused(actions), [7, 8, 9]);
  const [refusal] = actions.filter((action) => action.kind === "refuse");
  assert.ok(refusal!.retryAfterMs > 300 && refusal!.retryAfterMs < 320, `${refusal!.retryAfterMs}`);
  // Another stream has its first before the second of this one.
  assert.equal(refused(service.step(requested(of(0, "b")), 0)), [6]);
  assert.equal(sent(service.step({ kind: "woke" }, 1)).length, 1);
});

test("at a rate of nothing everything is refused, and so is what waits when the rate becomes nothing", () => {
  const wide = { ...limits, slots: 8, sendingBytesMax: 100 * MIB };
  const politeness = new Politeness({ prefetch: 100 * 1024 });
  const service = new Service(wide, politeness);
  const of = (item: number) => ({ ...request("a", item, 4 * MIB), traffic: "prefetch" as const });
  const before = service.step(requested(of(0), of(1)), 0);
  assert.equal([sent(before), refused(before)], [["a0"], []]);
  politeness.setRates({ prefetch: 0 }, 0);
  const after = service.step({ kind: "woke" }, 0);
  assert.equal(refused(after), [1]);
  assert.equal(
    after.map((action) => (action.kind === "refuse" ? action.retryAfterMs : 0)),
    [60_000],
  );
});

test("a class that may have nothing is not woken for", () => {
  const service = new Service({ ...limits, slots: 8, sendingBytesMax: 100 * MIB }, new Politeness({ repair: 0 }));
  const of = (item: number) => ({ ...request("a", item, 4 * MIB), traffic: "repair" as const });
  const actions = service.step(requested(of(0), of(1)), 0);
  assert.equal(
    actions.map(({ kind }) => kind),
    ["send", "refuse"],
  );
});

test.run();
