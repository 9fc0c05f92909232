import { chunkBytesMax } from "../protocol/limits.ts";

// Buffers for chunks, used again and again: whoever reads a chunk takes one, it goes with its bytes to the worker thread
// that writes them, and comes back from there. Fresh ones cost as much as the copying: the kernel clears 128 to 512 pages
// for each, one fault a page, and takes them back (decision 0060).

/** The thread's own. */
const idle: ArrayBuffer[] = [];
/** Those that are out: nobody but their holder has bytes in them. */
const lent = new WeakSet<ArrayBuffer>();
let clearing: NodeJS.Timeout | undefined;

/** Room for `sizeBytes` bytes, in a buffer that nobody else has. It holds what was in it last. */
export function takeBuffer(sizeBytes: number): Buffer<ArrayBuffer> {
  if (sizeBytes < pooledBytesMin || sizeBytes > chunkBytesMax) return Buffer.allocUnsafeSlow(sizeBytes);
  const buffer = idle.pop() ?? new ArrayBuffer(chunkBytesMax);
  lent.add(buffer);
  return Buffer.from(buffer, 0, sizeBytes);
}

/** Whether nobody else has bytes in the buffer of these: it may be given away as it is. */
export function isOwnBuffer(bytes: Uint8Array): bytes is Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  return buffer instanceof ArrayBuffer && (buffer.byteLength === bytes.byteLength || lent.has(buffer));
}

/** Whether a buffer is one of these, in whichever thread: worth sending back. */
export function isPooled(buffer: ArrayBuffer): boolean {
  return buffer.byteLength === chunkBytesMax;
}

/** Nobody needs what is in this buffer any more, and nobody else has it. */
export function giveBuffer(buffer: ArrayBuffer): void {
  if (buffer.detached || !isPooled(buffer)) return;
  lent.delete(buffer);
  // Freed now and not when the collector comes round.
  if (idle.length >= idleMax) return void buffer.transfer(0);
  idle.push(buffer);
  clearing ??= setTimeout(clear, idleMs).unref();
  clearing.refresh();
}

function clear(): void {
  clearing = undefined;
  for (const buffer of idle.splice(0)) buffer.transfer(0);
}

/** Below it malloc has room that it uses again by itself. */
const pooledBytesMin = 128 * 1024;
/** What one transfer has on its way when chunks are of the target size: at most 32 MiB, and less where chunks are small. */
const idleMax = 16;
/** How long they are kept when nothing is on its way. */
const idleMs = 5_000;
