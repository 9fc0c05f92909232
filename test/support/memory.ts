import { readFileSync } from "node:fs";

/** About how many bytes some synchronous work leaves allocated, garbage included; never below zero. */
export function allocatedBytes(work: () => unknown): number {
  const before = memoryBytes();
  // Kept until it was measured.
  const kept = work();
  const after = memoryBytes();
  void kept;
  return Math.max(0, after - before);
}

function memoryBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** The most memory that a process ever had in RAM, in bytes (proc(5), VmHWM). */
export function peakBytes(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}
