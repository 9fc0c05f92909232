import { FormatError } from "./errors.ts";

/** One frame as it arrived: a CBOR header and the raw bytes that follow it. The body is a buffer of its own. */
export interface Frame {
  readonly header: Uint8Array;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** What a protocol lets a peer send in one frame. */
export interface FrameLimits {
  readonly headerBytesMax: number;
  readonly bodyBytesMax: number;
}

/**
 * The start of a frame: two big-endian lengths of 32 bits, and the header. The body's bytes follow as they are, so that
 * a chunk is never copied into CBOR.
 */
export function encodeFrameHead(header: Uint8Array, bodyBytes: number): Uint8Array {
  const head = new Uint8Array(prefixBytes + header.length);
  const view = new DataView(head.buffer);
  view.setUint32(0, header.length);
  view.setUint32(4, bodyBytes);
  head.set(header, prefixBytes);
  return head;
}

/** Takes a stream's bytes in as they come and gives back whole frames; holds at most one frame that is not whole. */
export class FrameDecoder {
  readonly #limits: FrameLimits;
  readonly #prefix = new Uint8Array(prefixBytes);
  #filled = 0;
  #header: Uint8Array | undefined;
  #body: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /** Whether the stream may end here: no frame is half read. */
  get isBetweenFrames(): boolean {
    return this.#header === undefined && this.#filled === 0;
  }

  /** The frames that these bytes complete. @throws {FormatError} when a length is past its limit. */
  push(bytes: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let rest = bytes;
    while (true) {
      rest = this.#fill(rest);
      if (this.#header === undefined) {
        if (this.#filled < prefixBytes) return frames;
        this.#begin();
        continue;
      }
      if (this.#filled < this.#header.length + this.#body.length) return frames;
      frames.push({ header: this.#header, body: this.#body });
      this.#header = undefined;
      this.#filled = 0;
    }
  }

  /** Copies what fits into the part that is being read. Answers the rest. */
  #fill(bytes: Uint8Array): Uint8Array {
    let rest = bytes;
    if (this.#header === undefined) return this.#copy(rest, this.#prefix, this.#filled);
    if (this.#filled < this.#header.length) rest = this.#copy(rest, this.#header, this.#filled);
    if (this.#filled < this.#header.length) return rest;
    return this.#copy(rest, this.#body, this.#filled - this.#header.length);
  }

  #copy(from: Uint8Array, to: Uint8Array, at: number): Uint8Array {
    const length = Math.min(from.length, to.length - at);
    to.set(from.subarray(0, length), at);
    this.#filled += length;
    return from.subarray(length);
  }

  #begin(): void {
    const view = new DataView(this.#prefix.buffer);
    const headerBytes = view.getUint32(0);
    const bodyBytes = view.getUint32(4);
    if (headerBytes > this.#limits.headerBytesMax || bodyBytes > this.#limits.bodyBytesMax) {
      throw new FormatError(`a frame claims ${headerBytes} + ${bodyBytes} bytes, more than its protocol allows`, {
        code: "FRAME_TOO_LARGE",
      });
    }
    this.#header = new Uint8Array(headerBytes);
    // Also an empty body is a buffer of its own: who gets it may give it away to another thread.
    this.#body = new Uint8Array(bodyBytes);
    this.#filled = 0;
  }
}

const prefixBytes = 8;
