// runs unprivileged
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiNode, ApiVariant } from "../../../node/http/api-types.ts";
import { NodeClient, type Progress } from "../../../node/http/client.ts";
import { ControlServer } from "../../../node/http/control.ts";
import { BusyError, NotFoundError } from "../../../protocol/errors.ts";
import type { NamedThing } from "../../../protocol/handle-text.ts";
import { Events, failureOf, within } from "../../support/swarm-member.ts";

const test = suite("the local API");
const hash = "ab".repeat(32);
const thing = { kind: "variantHash", hash } as never;
const variant = {
  handle: "foo",
  variant: hash,
  payload: undefined,
  path: "/foo",
  outcome: "local",
  seconds: 0,
} as const;
const result: ApiVariant = { ...variant, bytes: { local: 1, peers: 0, origin: 0 } };
const progress: Progress = { text: "foo", totalBytes: 2, bytes: { local: 0, peers: 1, origin: 0 } };

/** A node that answers what a test says. */
class FakeNode implements ApiNode {
  apiVersion = 1;
  readonly signals: Events<AbortSignal> = new Events();
  onFetch: (options: Parameters<ApiNode["fetch"]>[1]) => Promise<ApiVariant> = async () => result;

  status(version: string) {
    return { apiVersion: this.apiVersion, version };
  }
  holdings() {
    return [];
  }
  peers() {
    return [{ peer: "p" }];
  }
  async fetch(_thing: unknown, options: Parameters<ApiNode["fetch"]>[1]) {
    this.signals.add(options.signal!);
    return await this.onFetch(options);
  }
  hashOf() {
    return "v".repeat(64);
  }
  async verify() {
    return { checked: 3, damaged: [] };
  }
  async remove(thing: NamedThing) {
    if (thing.kind === "payload") throw new NotFoundError("it is not held here");
    return { handle: "foo", variant: hash, payload: hash, path: "/foo", bytes: 7 };
  }
  async fsck() {
    return { checked: 4, faults: ["a fault"] };
  }

  /** Its calls are tested with a real node. */
  get keeping(): never {
    throw new Error("broken promise: nobody asks here");
  }
}

interface Scene {
  readonly home: string;
  readonly node: FakeNode;
  readonly client: NodeClient;
  readonly control: ControlServer;
  readonly sockets: { readonly socket: string; readonly adminSocket: string };
  readonly stops: Events<string>;
  readonly open: () => Promise<ControlServer>;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    // Short, since the path of a socket has at most 107 bytes.
    const home = mkdtempSync(join(tmpdir(), "api-"));
    const sockets = { socket: join(home, "run/node.sock"), adminSocket: join(home, "run/admin.sock") };
    const stops = new Events<string>();
    const node = new FakeNode();
    const open = () => ControlServer.open({ node, version: "1.2.3", ...sockets, onStop: () => stops.add("stop") });
    const control = await open();
    try {
      const client = new NodeClient(sockets);
      await within(10_000, text, check({ home, node, client, control, sockets, stops, open }));
    } finally {
      await within(5_000, "closing", control[Symbol.asyncDispose]());
      rmSync(home, { recursive: true });
    }
  });
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** A request as any program makes it. */
async function call(socketPath: string, method: string, path: string, body?: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const sent = request({ socketPath, method, path, headers }, (response) => {
    let text = "";
    response.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    response.on("end", () => resolve({ status: response.statusCode!, text }));
  });
  sent.once("error", reject);
  sent.end(body);
  return await promise;
}

const errorOf = ({ text }: Answer) => (JSON.parse(text) as { error: { code: string; exit: number } }).error;
const modeOf = (path: string) => statSync(path).mode & 0o777;

rule(
  "users' and owner's sockets have their modes, in a directory that others cannot write to",
  async ({ sockets, home }) => {
    assert.equal(
      [modeOf(sockets.socket), modeOf(sockets.adminSocket), modeOf(join(home, "run"))],
      [0o660, 0o600, 0o755],
    );
  },
);

rule("nothing but the sockets' own directory need be writable", async ({ home }) => {
  const run = join(home, "closed", "run");
  mkdirSync(run, { recursive: true, mode: 0o755 });
  chmodSync(join(home, "closed"), 0o555);
  const sockets = { socket: join(run, "node.sock"), adminSocket: join(run, "admin.sock") };
  const control = await ControlServer.open({ node: new FakeNode(), version: "1", ...sockets, onStop: () => undefined });
  assert.is((await new NodeClient(sockets).status()).apiVersion, 1);
  await control[Symbol.asyncDispose]();
  chmodSync(join(home, "closed"), 0o755);
});

rule("status, holdings and peers are answered on both sockets", async ({ client, sockets }) => {
  const status = await client.status();
  assert.equal([status.apiVersion, status.version], [1, "1.2.3"]);
  assert.equal([await client.holdings(), await client.peers()], [[], [{ peer: "p" }]]);
  for (const path of ["/v1/status", "/v1/holdings", "/v1/peers"]) {
    assert.is((await call(sockets.adminSocket, "GET", path)).status, 200);
  }
});

rule("what only an admin may do is not there for users", async ({ client, sockets, stops }) => {
  for (const path of ["/v1/stop", "/v1/fsck", "/v1/rm"]) {
    const answer = await call(sockets.socket, "POST", path);
    assert.equal([answer.status, errorOf(answer).code, errorOf(answer).exit], [404, "NO_SUCH_CALL", 2]);
  }
  assert.equal(stops.all, []);
  assert.equal(await client.fsck(), { checked: 4, faults: ["a fault"] });
  await client.stop();
  await stops.until("the stop", () => true);
});

rule("a call that there is not is said to be none", async ({ sockets }) => {
  for (const [method, path] of [
    ["GET", "/"],
    ["GET", "/v2/status"],
    ["DELETE", "/v1/holdings"],
    ["GET", "/v1/../../etc/passwd"],
  ] as const) {
    const answer = await call(sockets.socket, method, path);
    assert.equal([answer.status, errorOf(answer).code], [404, "NO_SUCH_CALL"]);
  }
});

rule("a body that asks wrongly is an error of usage", async ({ sockets, node }) => {
  const bodies = [
    undefined,
    "null",
    "[]",
    "{}",
    '{"things": 1}',
    '{"things": [null]}',
    '{"things": [{"kind": "path", "path": "x"}]}',
    '{"things": [{"kind": "variantHash", "hash": "xyz"}]}',
    '{"things": [{"kind": "variant", "variant": {"kind": "rez"}}]}',
    '{"things": [], "origin": "always"}',
    '{"things": [], "peers": "limited"}',
    '{"things": [], "traffic": "job-start"}',
    '{"things": [], "traffic": 1}',
    '{"things": [], "timeoutMs": -1}',
    '{"things": [], "timeoutMs": "1"}',
  ];
  for (const body of bodies) {
    const answer = await call(sockets.socket, "POST", "/v1/fetch", body);
    assert.equal([answer.status, errorOf(answer).exit], [400, 2], `${body}: ${answer.text}`);
  }
  assert.equal(node.signals.all, []);
});

rule("a fetch streams its progress and then its result", async ({ client, node }) => {
  node.onFetch = async ({ onProgress, origin, peers, timeoutMs, traffic }) => {
    assert.equal([origin, peers, timeoutMs, traffic], ["limited", "auto", 5_000, "jobStart"]);
    onProgress?.(progress);
    return result;
  };
  const seen: Progress[] = [];
  const things = [thing];
  const done = await client.fetch(
    { things, origin: "limited", peers: "auto", timeoutMs: 5_000, traffic: "jobStart" },
    (p) => seen.push(p),
    {},
  );
  assert.equal(
    done.map(({ path }) => path),
    ["/foo"],
  );
  assert.equal(
    seen.map(({ bytes, text }) => [bytes.peers, text]),
    [[1, "foo"]],
  );
});

rule("one variant that fails does not keep the others from coming", async ({ client, node }) => {
  let calls = 0;
  node.onFetch = async () => {
    if (calls++ === 0) throw new NotFoundError("nowhere", { details: { a: 1 } });
    return result;
  };
  const done = await client.fetch({ things: [thing, thing] }, () => undefined, {});
  assert.equal(
    done.map(({ outcome, error, variant: named }) => [outcome, error?.code, named === "v".repeat(64)]),
    [
      ["failed", "NOT_FOUND", true],
      ["local", undefined, false],
    ],
  );
});

rule("a body that is no JSON, or too large, is the caller's fault", async ({ sockets }) => {
  for (const body of ["{", "x".repeat(5 * 1024 * 1024)]) {
    const { statusCode, text } = await post(sockets.socket, "/v1/fetch", body);
    assert.ok(statusCode >= 400 && statusCode < 500, `${statusCode}`);
    const { error } = JSON.parse(text) as { error: { code: string; exit: number } };
    assert.equal([error.code, error.exit], ["USAGE", 2]);
  }
});

rule("a directory in which everybody may write is refused, and its mode is left alone", async ({ node, home }) => {
  const open = join(home, "open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  const sockets = { socket: join(open, "node.sock"), adminSocket: join(open, "admin.sock") };
  const error = await ControlServer.open({ node, version: "1", ...sockets, onStop: () => undefined }).catch((e) => e);
  assert.is(error.code, "UNUSABLE");
  assert.is(statSync(open).mode & 0o777, 0o777);
  assert.equal(readdirSync(open), []);
});

rule("a verify streams its result", async ({ client }) => {
  assert.equal(await client.verify([], {}), { checked: 3, damaged: [] });
});

rule("of several variants to remove each has its own answer, once", async ({ client }) => {
  const unknown = { kind: "payload", payload: "cd".repeat(32) } as never;
  const [removed, failed, ...more] = await client.remove([thing, unknown, thing], {});
  assert.equal(removed, { handle: "foo", variant: hash, payload: hash, path: "/foo", bytes: 7, outcome: "removed" });
  assert.equal([failed?.outcome, failed?.error?.code, failed?.error?.exit], ["failed", "NOT_FOUND", 3]);
  assert.equal(more, []);
});

rule("a caller that leaves ends its own share and nobody else's", async ({ client, node }) => {
  const open = Promise.withResolvers<ApiVariant>();
  node.onFetch = ({ signal }) => {
    const left = Promise.withResolvers<never>();
    signal?.addEventListener("abort", () => left.reject(signal.reason));
    return Promise.race([open.promise, left.promise]);
  };
  const stop = new AbortController();
  const stays = client.fetch({ things: [thing] }, () => undefined, {});
  await node.signals.until("the first call", () => node.signals.all.length === 1);
  const leaves = failureOf(client.fetch({ things: [thing] }, () => undefined, { signal: stop.signal }));
  await node.signals.until("the second call", () => node.signals.all.length === 2);
  const reason = new Error("I leave");
  stop.abort(reason);
  assert.is((await leaves).message, "I leave");
  const [first, second] = node.signals.all as [AbortSignal, AbortSignal];
  if (!second.aborted) await new Promise((resolve) => second.addEventListener("abort", resolve));
  assert.is(first.aborted, false);
  open.resolve(result);
  assert.is((await stays)[0]?.outcome, "local");
});

rule("a node that ends in the middle of a call is said to have", async ({ client, node, control }) => {
  node.onFetch = () => new Promise(() => undefined);
  const call = failureOf(client.fetch({ things: [thing] }, () => undefined, {}));
  await node.signals.until("the call", () => true);
  await control[Symbol.asyncDispose]();
  assert.is((await call).exit !== undefined || (await call) instanceof Error, true);
});

rule("a node of another version of the API is said to be", async ({ client, node }) => {
  node.apiVersion = 2;
  const failure = await failureOf(client.status());
  assert.equal([failure.code, failure.exit], ["API_VERSION", 1]);
  assert.match(failure.message, "the node speaks version 2 of the local API, this command 1");
});

rule("no node is said to be none", async ({ home }) => {
  const client = new NodeClient({ socket: join(home, "no.sock"), adminSocket: join(home, "no-admin.sock") });
  const failure = await failureOf(client.status());
  assert.equal([failure.code, failure.exit], ["NO_NODE", 6]);
});

rule("a socket that is in use is left alone", async ({ client, open }) => {
  const failure = await failureOf(open());
  assert.instance(failure, BusyError);
  assert.equal([failure.code, failure.exit], ["SOCKET_IN_USE", 8]);
  assert.is((await client.status()).apiVersion, 1);
});

rule("a socket that a dead node left is replaced", async ({ client, control, sockets, open }) => {
  await control[Symbol.asyncDispose]();
  writeFileSync(sockets.adminSocket, "not even a socket");
  const dead = createServer().listen(sockets.socket);
  await new Promise((resolve) => dead.once("listening", resolve));
  await new Promise((resolve) => dead.close(resolve));
  const again = await open();
  try {
    assert.is((await client.status()).apiVersion, 1);
    await client.stop();
  } finally {
    await again[Symbol.asyncDispose]();
  }
});

rule("the sockets go with the server", async ({ client, control, sockets }) => {
  await control[Symbol.asyncDispose]();
  assert.is((await failureOf(client.status())).code, "NO_NODE");
  assert.throws(() => readFileSync(sockets.socket));
});

rule("it is idle once nobody has called for a while, and not before", async ({ client, node, control }) => {
  const open = Promise.withResolvers<ApiVariant>();
  node.onFetch = () => open.promise;
  const fetching = client.fetch({ things: [thing] }, () => undefined, {});
  await node.signals.until("the call", () => true);
  let isIdle = false;
  const idle = control.idle(150).then(() => {
    isIdle = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.is(isIdle, false, "a call is under way");
  open.resolve(result);
  await fetching;
  await client.status();
  const sinceMs = performance.now();
  await idle;
  assert.ok(performance.now() - sinceMs > 100);
});

rule("a directory of somebody else, or one that cannot be made, is refused", async ({ home, node }) => {
  const options = { node, version: "1", onStop: () => undefined };
  if (process.getuid?.() === 0) {
    mkdirSync(join(home, "theirs"));
    const { chownSync } = await import("node:fs");
    chownSync(join(home, "theirs"), 65_534, 65_534);
    const sockets = { socket: join(home, "theirs/node.sock"), adminSocket: join(home, "theirs/admin.sock") };
    const failure = await failureOf(ControlServer.open({ ...options, ...sockets }));
    assert.equal([failure.code, failure.exit], ["UNUSABLE", 1]);
  }
  chmodSync(join(home, "run"), 0o755);
});

/** One call with a body as it stands. */
async function post(socketPath: string, path: string, body: string): Promise<{ statusCode: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ statusCode: number; text: string }>();
  const headers = { "content-type": "application/json" };
  const call = request({ socketPath, method: "POST", path, headers }, (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("end", () => resolve({ statusCode: response.statusCode!, text: Buffer.concat(chunks).toString() }));
  });
  call.once("error", reject);
  call.end(body);
  return await promise;
}

test.run();
