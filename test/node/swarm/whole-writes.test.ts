import { Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LoopbackWorld } from "../../support/libp2p-world.ts";
import { Member, variantNamed, within } from "../../support/swarm-member.ts";

const test = suite("writes");

test("a message leaves in one write, with its length and its tag", async () => {
  const world = new LoopbackWorld();
  const sizes: number[] = [];
  const { write } = Socket.prototype;
  Socket.prototype.write = function (this: Socket, ...words: Parameters<typeof write>) {
    sizes.push((words[0] as unknown as Uint8Array).length);
    return write.apply(this, words);
  } as typeof write;
  try {
    const holder = new Member();
    holder.records.set(variantNamed("aa"), new Uint8Array(10_000));
    const first = await world.add("first", holder);
    const second = await world.add("second");
    await within(10_000, "to be let in", second.settled());
    const record = await within(10_000, "a record", second.record(first.id, variantNamed("aa")));
    assert.is(record?.length, 10_000);
    // The length of an encrypted message has two bytes. What negotiates the encryption is still written in pieces.
    assert.is(sizes.filter((size) => size === 2).length, 0);
    assert.ok(
      sizes.some((size) => size > 10_000 + 2 + 16),
      "all of the record in one",
    );
  } finally {
    Socket.prototype.write = write;
    await within(10_000, "closing", world.close());
  }
});

test.run();
