// biome-ignore-all lint/style/noRestrictedGlobals: these lines are here to be refused by the compiler.

/** Lines that must not compile: should this room ever gain one of these globals, its line stops being an error and tsc fails. */
void [
  // @ts-expect-error: no process, so no environment, no exit, no memory figures.
  () => process,
  // @ts-expect-error: no timers: time is an argument.
  () => setTimeout,
  // @ts-expect-error: no timers: time is an argument.
  () => setInterval,
  // @ts-expect-error: no timers: time is an argument.
  () => setImmediate,
  // @ts-expect-error: no order of its own: a step gives back what to do.
  () => queueMicrotask,
  // @ts-expect-error: no clock: time is an argument.
  () => performance,
  // @ts-expect-error: no network.
  () => fetch,
  // @ts-expect-error: no network.
  () => WebSocket,
  // @ts-expect-error: no output.
  () => console,
  // @ts-expect-error: bytes are Uint8Array.
  () => Buffer,
  // @ts-expect-error: randomness and hashing are arguments.
  () => crypto,
  // @ts-expect-error: an abort comes in as an event.
  () => AbortSignal,
  // @ts-expect-error: no modules but this room's and cborg.
  () => require,
  // @ts-expect-error: no paths of this machine.
  () => import.meta.dirname,
];
