import { createRequire } from "node:module";
import { bytesToHex, type Hasher, hexToBytes } from "../protocol/hash.ts";

/** A BLAKE3-256 engine: native where it loads, WebAssembly elsewhere. */
export interface HashEngine {
  readonly name: "native" | "wasm";
  /** One-shot: the quickest form of both engines at the size of a chunk (PERFORMANCE section 2). */
  readonly hash: Hasher;
  /** For what does not fit in one buffer; `digest` ends it and frees it. An abandoned one leaks 2 KB in wasm. */
  readonly stream: () => HashStream;
}

/** A hash in the making. */
export interface HashStream {
  update(bytes: Uint8Array): void;
  digest(): Uint8Array;
}

/**
 * The engine of this process, checked against known answers once.
 * @throws {Error} when no engine gives them: nothing could be verified then.
 */
export function openHashEngine(only?: "native" | "wasm"): HashEngine {
  if (only === undefined && opened !== undefined) return opened;
  for (const load of [loadNative, loadWasm]) {
    const engine = load();
    if (engine === undefined || (only !== undefined && engine.name !== only)) continue;
    if (!knowsItsAnswers(engine)) continue;
    if (only === undefined) opened = engine;
    return engine;
  }
  throw new Error(`no ${only ?? ""} BLAKE3 engine gives the right answers on this machine`);
}

interface NativeModule {
  blake3(input: Buffer): Buffer;
  Blake3Hasher: new () => { update(input: Buffer): unknown; digestBuffer(): Buffer };
}

interface WasmModule {
  hash(input: Uint8Array): Uint8Array;
  createHash(): { update(input: Uint8Array): unknown; digest(): Uint8Array };
}

let opened: HashEngine | undefined;
const require = createRequire(import.meta.url);

/** BLAKE3's official vectors: the byte i of the input is i mod 251 (BLAKE3-team/BLAKE3, test_vectors.json). */
const knownAnswers: readonly (readonly [length: number, hash: string])[] = [
  [0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"],
  [1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"],
  [1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"],
  [102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"],
];

function loadNative(): HashEngine | undefined {
  let native: NativeModule;
  try {
    native = require("@napi-rs/blake-hash") as NativeModule;
  } catch {
    return undefined; // No prebuilt binary for this platform.
  }
  return {
    name: "native",
    hash: (bytes) => native.blake3(asBuffer(bytes)),
    stream: () => {
      const hasher = new native.Blake3Hasher();
      return { update: (bytes) => void hasher.update(asBuffer(bytes)), digest: () => hasher.digestBuffer() };
    },
  };
}

function loadWasm(): HashEngine | undefined {
  const wasm = require("blake3-wasm") as WasmModule;
  return {
    name: "wasm",
    hash: (bytes) => wasm.hash(bytes),
    stream: () => {
      const hasher = wasm.createHash();
      return { update: (bytes) => void hasher.update(bytes), digest: () => hasher.digest() };
    },
  };
}

function knowsItsAnswers(engine: HashEngine): boolean {
  return knownAnswers.every(([length, hash]) => {
    const input = Uint8Array.from({ length }, (_, i) => i % 251);
    const stream = engine.stream();
    stream.update(input.subarray(0, length >> 1));
    stream.update(input.subarray(length >> 1));
    const right = Buffer.from(hexToBytes(hash));
    return right.equals(engine.hash(input)) && bytesToHex(stream.digest()) === hash;
  });
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
