import { writeSync } from "node:fs";
import { type ChildAnswer, type ChildQuestion, LineReader, slotBytes, slots, windowDescriptor } from "./child-calls.ts";
import { errnoOf, pathExists, readWhole } from "./folder-files.ts";
import { readRanges } from "./in-place.ts";

// The process that reads a folder for a node: where a mount hangs, this one hangs, and the node goes on without it. It
// imports next to nothing, since it starts when the first chunk is wanted.

const buffers: Buffer[] = Array.from({ length: slots });
let underWay = 0;
const lines = new LineReader();

// A terminal's Ctrl-C and systemd's SIGTERM go to the whole group: the node still needs what it asked for.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
process.stdin.setEncoding("utf8");
process.stdin.on("data", (text: string) => {
  for (const line of lines.push(text)) void answer(JSON.parse(line) as ChildQuestion);
});
process.stdin.on("error", end);
process.stdin.on("end", end);
process.stdout.on("error", end);

/** Never rejects. */
async function answer(question: ChildQuestion): Promise<void> {
  underWay++;
  let said: ChildAnswer;
  try {
    said = await perform(question);
  } catch (error) {
    said = { id: question.id, kind: "failed", code: errnoOf(error) ?? "UNKNOWN", message: (error as Error).message };
  }
  underWay--;
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

async function perform(question: ChildQuestion): Promise<ChildAnswer> {
  const { id, slot } = question;
  switch (question.kind) {
    case "exists":
      return { id, kind: "exists", exists: await pathExists(question.path) };
    case "read": {
      const found = await readWhole(question.path, Math.min(question.bytesMax, slotBytes), roomOf(slot));
      return found.kind === "bytes" ? handOver(id, slot, found.bytes) : { id, ...found };
    }
    case "readInPlace": {
      const found = await readRanges(question, roomOf(slot));
      return found.kind === "bytes" ? handOver(id, slot, found.bytes) : { id, ...found };
    }
  }
}

/** One buffer a slot, used again and again: only one question at a time has the slot. */
function roomOf(slot: number): (sizeBytes: number) => Uint8Array {
  return (sizeBytes) => {
    if (sizeBytes > slotBytes) throw Object.assign(new Error("more than a slot takes"), { code: "EFBIG" });
    buffers[slot] ??= Buffer.allocUnsafeSlow(slotBytes);
    return buffers[slot].subarray(0, sizeBytes);
  };
}

/** At once, and not in the thread pool: nothing waits for memory. */
function handOver(id: number, slot: number, bytes: Uint8Array): ChildAnswer {
  for (let written = 0; written < bytes.length; ) {
    written += writeSome(bytes.subarray(written), slot * slotBytes + written);
  }
  return { id, kind: "bytes", sizeBytes: bytes.length };
}

function writeSome(bytes: Uint8Array, position: number): number {
  try {
    return writeSync(windowDescriptor, bytes, 0, bytes.length, position);
  } catch (error) {
    // A full memory is no fault of the folder, nor is it full.
    throw Object.assign(error as Error, { code: "ENOMEM" });
  }
}

/** The node has closed its end, or died. An orderly exit would wait for calls that may never end. */
function end(): void {
  if (underWay > 0) process.kill(process.pid, "SIGKILL");
  process.exitCode = 0;
}
