import type { Stream } from "@libp2p/interface";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { FrameStream } from "../../../node/swarm/frame-stream.ts";
import { nextFrame } from "../../../node/swarm/frames.ts";
import { FormatError } from "../../../protocol/errors.ts";
import { encodeMessage } from "../../../protocol/messages.ts";
import { encodeFrameHead } from "../../../protocol/wire.ts";
import { failureOf } from "../../support/swarm-member.ts";

const limits = { headerBytesMax: 1024, bodyBytesMax: 1024 };
const absent = encodeMessage({ kind: "absent" });
const frame = encodeFrameHead(absent, 0);

/** As much of a libp2p stream as frames need: whoever reads the other end takes bytes when the test says so. */
class FakeStream extends EventTarget {
  status = "open";
  readableEnded = false;
  writableNeedsDrain = false;
  writeBufferLength = 0;
  sent = 0;
  aborted: Error | undefined;

  send(bytes: Uint8Array): boolean {
    if (this.status !== "open") throw new Error("closed");
    this.sent++;
    this.writeBufferLength += bytes.length;
    this.writableNeedsDrain = true;
    return false;
  }

  /** The other end takes some bytes: as in libp2p, room is announced however little it is. */
  take(bytes: number): void {
    this.writeBufferLength = Math.max(0, this.writeBufferLength - bytes);
    this.writableNeedsDrain = false;
    this.dispatchEvent(new Event("drain"));
    this.writableNeedsDrain = this.writeBufferLength > 0;
  }

  comes(bytes: Uint8Array): void {
    this.dispatchEvent(Object.assign(new Event("message"), { data: bytes }));
  }

  ends(): void {
    this.readableEnded = true;
    this.dispatchEvent(new Event("end"));
  }

  abort(error: Error): void {
    this.status = "aborted";
    this.aborted ??= error;
    this.dispatchEvent(new Event("close"));
  }

  async close(): Promise<void> {
    this.status = "closed";
  }
}

const ignore = () => undefined;

function make(stallMs?: number): { fake: FakeStream; frames: FrameStream; broken: string[]; unread: string[] } {
  const fake = new FakeStream();
  const broken: string[] = [];
  const unread: string[] = [];
  const told = {
    onBroken: (reason: string) => broken.push(reason),
    onUnread: (reason: string) => unread.push(reason),
  };
  const options = { stallMs, frameMs: 100, ...told };
  return { fake, frames: new FrameStream(fake as unknown as Stream, limits, options), broken, unread };
}

test("a frame has been sent when all of it has left, not at the first sign of room", async () => {
  const { fake, frames } = make(1_000);
  const sent: number[] = [];
  for (let i = 0; i < 3; i++)
    void frames.send({ kind: "record" }, new Uint8Array(1_000)).then(() => sent.push(i), ignore);
  await new Promise(setImmediate);
  assert.is(fake.sent, 2);
  for (let i = 0; i < 100; i++) {
    fake.take(1);
    await new Promise(setImmediate);
  }
  assert.equal([fake.sent, sent], [2, []]);
  fake.take(10_000);
  await new Promise(setImmediate);
  assert.equal([fake.sent, sent], [4, [0]]);
  frames.abort(new Error("done"));
});

test("a reader that takes nothing loses the stream, and whoever sends hears of it", async () => {
  const { fake, frames } = make(50);
  const sends = [1, 2, 3].map(() => failureOf(frames.send({ kind: "record" }, new Uint8Array(100))));
  for (const failure of await Promise.all(sends)) assert.is(failure.code, "UNREACHABLE");
  assert.match(fake.aborted!.message, "does not read");
});

test("who breaks the protocol is told of once, with the reason", async () => {
  const tooLarge = make();
  tooLarge.fake.comes(new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0]));
  tooLarge.fake.comes(new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0]));
  assert.is(tooLarge.broken.length, 1);
  assert.match(tooLarge.broken[0]!, "more than its protocol allows");
  const nonsense = make();
  const refuse = () => {
    throw new FormatError("nonsense");
  };
  nonsense.frames.listen(refuse, ignore);
  nonsense.fake.comes(Buffer.concat([frame, frame]));
  assert.equal(nonsense.broken, ["nonsense"]);
  const late = make();
  late.fake.ends();
  late.frames.abort(new FormatError("found out later"));
  assert.equal(late.broken, ["found out later"]);
  const honest = make();
  honest.frames.abort(new Error("the node stops"));
  assert.equal(honest.broken, []);
});

test("who does not read breaks nothing, a suspended machine does so too: it is told of apart, once", async () => {
  const { frames, broken, unread } = make(20);
  await Promise.all([1, 2].map(() => failureOf(frames.send({ kind: "record" }, new Uint8Array(100)))));
  assert.equal([unread, broken], [["it does not read what it asked for"], []]);
});

test("a frame that begins and does not end loses the stream; one after the other may go on for ever", async () => {
  const { fake, broken } = make();
  const sips = setInterval(() => fake.comes(Buffer.concat([frame.subarray(4), frame.subarray(0, 4)])), 20);
  fake.comes(frame.subarray(0, 4));
  await new Promise((resolve) => setTimeout(resolve, 250));
  assert.equal(broken, []);
  clearInterval(sips);
  await new Promise((resolve) => setTimeout(resolve, 250));
  assert.equal(broken, ["it begins a frame and does not end it"]);
});

test("a queue that only grows loses the stream", async () => {
  const { fake, frames } = make();
  const sends = Array.from({ length: 600 }, () => failureOf(frames.send({ kind: "absent" })));
  assert.is(fake.status, "aborted");
  for (const failure of await Promise.all(sends)) assert.is(failure.code, "UNREACHABLE");
});

test("frames that came before anybody listened are handed over in order, and then the end", async () => {
  const { fake, frames } = make();
  fake.comes(Buffer.concat([frame, frame.subarray(0, 5)]));
  fake.comes(frame.subarray(5));
  fake.ends();
  const came: string[] = [];
  frames.listen(
    () => came.push("frame"),
    () => came.push("end"),
  );
  fake.ends();
  assert.equal(came, ["frame", "frame", "end"]);
});

test("too many frames before anybody listened end the stream", async () => {
  const { fake } = make();
  for (let i = 0; i < 20; i++) fake.comes(frame);
  assert.is(fake.status, "aborted");
});

test("nothing is handed over after a frame that broke the protocol, and the end comes once", async () => {
  const { fake, frames } = make();
  let came = 0;
  let ends = 0;
  frames.listen(
    () => {
      came++;
      throw new Error("what is this");
    },
    () => ends++,
  );
  fake.comes(Buffer.concat([frame, frame, frame]));
  fake.comes(frame);
  assert.equal([came, ends, fake.status], [1, 1, "aborted"]);
});

test("a stream that had ended before is known to have", async () => {
  const fake = new FakeStream();
  fake.readableEnded = true;
  const frames = new FrameStream(fake as unknown as Stream, limits);
  assert.is((await failureOf(nextFrame(frames, new AbortController().signal))).code, "UNREACHABLE");
});

test("who waits for a frame and gives up gets its own reason", async () => {
  const { fake, frames } = make();
  const reason = new Error("enough");
  assert.is(await failureOf(nextFrame(frames, AbortSignal.abort(reason))), reason);
  assert.is(fake.status, "aborted");
});

test.run();
