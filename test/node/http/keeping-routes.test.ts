// runs unprivileged
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NodeClient } from "../../../node/http/client.ts";
import { ControlServer } from "../../../node/http/control.ts";
import type { ApiKeeping } from "../../../node/http/keeping-types.ts";
import { BusyError, UsageError } from "../../../protocol/errors.ts";
import { failureOf, within } from "../../support/swarm-member.ts";

const test = suite("the local API of what is kept");
const foo = { kind: "variant", variant: { kind: "rez", repository: "studio", name: "foo", version: "1.0" } } as const;
const line = { handle: "studio:foo-1.0", variant: "a", bytes: 1, outcome: "kept", reason: "kept: because" } as const;

interface Scene {
  readonly client: NodeClient;
  readonly sockets: { readonly socket: string; readonly adminSocket: string };
  /** Names of leases that were taken, and that were left. */
  readonly leases: { readonly held: string[]; readonly left: Promise<string> };
}

function rule(title: string, check: (scene: Scene) => Promise<void>): void {
  test(title, async () => {
    const home = mkdtempSync(join(tmpdir(), "api-"));
    const sockets = { socket: join(home, "node.sock"), adminSocket: join(home, "admin.sock") };
    const left = Promise.withResolvers<string>();
    const held: string[] = [];
    const keeping: ApiKeeping = {
      explain: async () => line,
      gc: async ({ dryRun }) => ({ freedBytes: dryRun ? 0 : 1, lines: [line], missing: undefined }),
      pin: async () => ({ handle: "studio:foo-1.0", variant: "a" }),
      unpin: async () => ({ handle: "studio:foo-1.0", variant: "a" }),
      lists: async () => [],
      coverage: async (toolset) => ({ toolset, version: 1, lines: [] }),
      async leaseFor({ name, process }) {
        if (process !== undefined) throw new UsageError("no such process");
        if (name === "full") throw new BusyError("too many", { code: "TOO_MANY_LEASES" });
        held.push(name);
        return { id: "1", leave: async () => left.resolve(name) };
      },
    };
    const node = { keeping, hashOf: () => "a", status: () => ({ apiVersion: 1 }) };
    const options = { node: node as never, version: "1.2.3", ...sockets, onStop: () => undefined };
    const control = await ControlServer.open(options);
    try {
      const scene = { client: new NodeClient(sockets), sockets, leases: { held, left: left.promise } };
      await within(10_000, title, check(scene));
    } finally {
      await within(5_000, "closing", control[Symbol.asyncDispose]());
      rmSync(home, { recursive: true });
    }
  });
}

rule("users may ask why and lease, the owner cleans and pins", async ({ client, sockets }) => {
  const { keeping } = client;
  assert.equal(await keeping.explain(foo), line);
  assert.equal(await keeping.gc({ dryRun: true }), { freedBytes: 0, lines: [line] });
  assert.equal([await keeping.pin(foo), await keeping.unpin(foo)].length, 2);
  assert.equal(await keeping.lists({ refresh: true }), []);
  assert.is((await keeping.coverage("fx")).toolset, "fx");
  for (const path of ["/v1/gc", "/v1/pin", "/v1/unpin"])
    assert.is((await post(sockets.socket, path, {})).status, 404, path);
});

rule("a lease ends when it is released, and when its holder goes away", async ({ client, leases }) => {
  const lease = await client.keeping.lease({ things: [foo], name: "nuke" });
  assert.equal(leases.held, ["nuke"]);
  lease.release();
  assert.is(await leases.left, "nuke");
});

rule("a lease that cannot be had says why", async ({ client }) => {
  const codeOf = async (call: object) =>
    (await failureOf(client.keeping.lease({ things: [foo], name: "x", ...call }))).code;
  assert.is(await codeOf({ name: "full" }), "TOO_MANY_LEASES");
  assert.is(await codeOf({ process: { pid: -1 } }), "USAGE");
  assert.is(await codeOf({ name: "" }), "USAGE");
  assert.is(await codeOf({ name: "a\u001b[2Jb" }), "USAGE");
});

rule("bodies that ask wrongly are errors of usage", async ({ sockets }) => {
  const bad = [
    ["/v1/explain", {}],
    ["/v1/explain", { thing: { kind: "variant", variant: { name: "../x" } } }],
    ["/v1/pin", { thing: "foo" }],
    ["/v1/unpin", []],
    ["/v1/keepalive/coverage", { toolset: 5 }],
    ["/v1/lease", { things: "foo", name: "x" }],
    ["/v1/lease", { things: Array.from({ length: 10_001 }, () => foo), name: "x" }],
  ] as const;
  for (const [path, body] of bad) {
    const { status, answer } = await post(sockets.adminSocket, path, body);
    assert.is(status, 400, `${path} ${answer}`);
    assert.is((JSON.parse(answer) as { error: { exit: number } }).error.exit, 2, path);
  }
});

async function post(socketPath: string, path: string, body: unknown): Promise<{ status: number; answer: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; answer: string }>();
  const headers = { "content-type": "application/json" };
  const call = request({ socketPath, method: "POST", path, headers }, (response) => {
    text(response).then((answer) => resolve({ status: response.statusCode!, answer }), reject);
  });
  call.once("error", reject);
  call.end(JSON.stringify(body));
  return await promise;
}

test.run();
