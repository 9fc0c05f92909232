// runs unprivileged
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ChildFiles } from "../../../node/origins/child-files.ts";
import type { ReaderProcess } from "../../../node/origins/reader-process.ts";
import type { P2pCacheError } from "../../../protocol/errors.ts";
import { until } from "../../support/child-processes.ts";

/** A process that says nothing, and that the kernel does not get rid of, killed or not, while its mount hangs. */
class Stuck {
  readonly #exited = Promise.withResolvers<void>();
  readonly #asked: { path: string; reject: (error: Error) => void }[] = [];
  readonly pid = 1;
  onOver: (why: "silent" | "ended") => void = () => undefined;

  get exited(): Promise<void> {
    return this.#exited.promise;
  }

  ask({ path }: { readonly path: string }): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    this.#asked.push({ path, reject });
    queueMicrotask(() => this.onOver("silent"));
    return promise;
  }

  giveUp(reasonOf: (path: string) => Error): void {
    for (const { path, reject } of this.#asked.splice(0)) reject(reasonOf(path));
  }

  async end(reasonOf: (path: string) => Error): Promise<void> {
    this.giveUp(reasonOf);
  }

  /** Its mount answers, or was taken away: what was killed goes. */
  go(): void {
    this.#exited.resolve();
  }
}

test("three children that the kernel keeps are the most: no other is started until one of them has gone", async () => {
  const started: Stuck[] = [];
  const start = async () => {
    started.push(new Stuck());
    return started.at(-1) as unknown as ReaderProcess;
  };
  const told: string[] = [];
  const options = { name: "filer", path: "/filer", restMs: 0, onAbandoned: (reason: string) => told.push(reason) };
  await using files = new ChildFiles({ ...options, start });
  const read = () =>
    files.read("/filer/p2pcache.json", 10).then(
      () => assert.unreachable("nothing failed"),
      (error: P2pCacheError) => [error.code, error.exit, error.hint?.startsWith("its mount seems to hang")],
    );
  for (let i = 0; i < 5; i++) assert.equal(await read(), ["ORIGIN_SILENT", 6, true]);
  assert.equal([started.length, told.length], [3, 3]);
  started[1]!.go();
  let tries = 0;
  await until("another one is started", () => {
    if (tries++ === 0) void read();
    return started.length === 4;
  });
  await read();
  assert.is(started.length, 4);
});

test.run();
