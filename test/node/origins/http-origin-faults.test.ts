// runs unprivileged
// deadline: 60 s

import { once } from "node:events";
import { rmSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { createServer } from "node:net";
import { gzipSync } from "node:zlib";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../../node/clock.ts";
import { retryAfter } from "../../../node/origins/http-faults.ts";
import { HttpOrigin } from "../../../node/origins/http-origin.ts";
import type { UnreachableError } from "../../../protocol/errors.ts";
import { parseChunkHash, parseVariantHash } from "../../../protocol/hash.ts";
import { recordBytesMax } from "../../../protocol/limits.ts";
import { misbehaviours } from "../../support/misbehaviour.ts";
import { noise } from "../../support/noise.ts";
import { emptyRepository } from "../../support/served-folder.ts";
import { isForChunk, StaticServer } from "../../support/static-server.ts";
import { failureOf } from "../../support/swarm-member.ts";

const hash = parseChunkHash("ab".repeat(32));
const variant = parseVariantHash("cd".repeat(32));
const sizeBytes = 1000;

/** What a chunk's reader gets of each: the code, words of the message, and whether it may help to ask again. */
const faults: Readonly<
  Record<keyof typeof misbehaviours, readonly [code: string, words: RegExp, isLasting?: boolean]>
> = {
  failing: ["UNREACHABLE", /answers 500 Internal Server Error/],
  silent: ["UNREACHABLE", /too slow: no answer in time/],
  stopping: ["UNREACHABLE", /too slow: its answer has stopped coming/],
  truncating: ["UNREACHABLE", /closed the connection/],
  short: ["CHUNK_CORRUPT", /web has 5 bytes for chunk abab/],
  longer: ["CHUNK_CORRUPT", /has 4194304 bytes, where there are 1000 at most/],
  endless: ["CHUNK_CORRUPT", /has more bytes, where there are 1000 at most/],
  redirectingElsewhere: ["UNREACHABLE", /redirects to http:\/\/elsewhere\.example, which is another server/, true],
  redirectingRound: ["UNREACHABLE", /redirects more than 5 times/, true],
  loginPage: ["CHUNK_CORRUPT", /web has 19 bytes for chunk/],
  badGzip: ["CHUNK_CORRUPT", /is broken: it is no gzip/],
  gzipBomb: ["CHUNK_CORRUPT", /bytes, where there are 1000 at most|has more than 1000 bytes/],
  strangeEncoding: ["CHUNK_CORRUPT", /unknown encoding rot13/],
  forbidding: ["UNREACHABLE", /answers 403 Forbidden/, true],
  busy: ["UNREACHABLE", /answers 503 Service Unavailable, and asks to be left alone for 45 s/],
};

for (const [name, [code, words, isLasting = false]] of Object.entries(faults)) {
  served(`a ${name} server: ${code}, in one line that names the origin and the object`, async (server, origin) => {
    server.misbehave = misbehaviours[name as keyof typeof misbehaviours];
    const error = (await failureOf(origin.chunk(hash, sizeBytes))) as UnreachableError;
    assert.is(error.code, code);
    assert.match(error.message, words);
    assert.match(error.message, /web|http:\/\/127/);
    assert.not.match(error.message, /\n|s3cret/);
    if (code === "UNREACHABLE") {
      assert.match(error.message, /^the origin web cannot be used: http:\/\/127\.0\.0\.1:\d+\/chunks\/ab\//);
      assert.is(error.isLasting, isLasting);
    }
    // It is the server that was bad, not what we think of it.
    server.misbehave = () => false;
    assert.is((await failureOf(origin.chunk(hash, sizeBytes))).code, "CHUNK_MISSING");
  });
}

served("a record that is too long is refused before it is read", async (server, origin) => {
  server.misbehave = (request, response) => {
    if (request.url?.includes("/variants/") !== true) return false;
    response.writeHead(200, { "content-length": recordBytesMax + 1 });
    response.end(request.method === "HEAD" ? undefined : Buffer.alloc(recordBytesMax + 1));
    return true;
  };
  assert.is((await failureOf(origin.latestRecord(variant))).code, "BAD_FORMAT");
});

served("an abort ends a request that gets no answer, with its reason", async (server, origin) => {
  server.misbehave = misbehaviours.silent;
  await failureOf(origin.chunk(hash, sizeBytes, { signal: AbortSignal.timeout(100) }));
  const controller = new AbortController();
  const asked = origin.chunk(hash, sizeBytes, { signal: controller.signal });
  const reason = new Error("enough");
  controller.abort(reason);
  assert.is(await failureOf(asked), reason);
});

served("aborted requests leave room for others", async (server, origin) => {
  server.misbehave = misbehaviours.silent;
  const controller = new AbortController();
  const asked = Array.from({ length: 30 }, () => failureOf(origin.chunk(hash, sizeBytes, controller)));
  controller.abort(new Error("enough"));
  await Promise.all(asked);
  server.misbehave = () => false;
  assert.is((await failureOf(origin.chunk(hash, sizeBytes))).code, "CHUNK_MISSING");
});

served("redirects within the host are followed, with the credentials", async (server, _, root) => {
  server.misbehave = (request, response) => {
    if (request.url?.startsWith("/old/") !== true) return request.headers.authorization === undefined && die();
    response.writeHead(301, { location: request.url.replace("/old/", "/") }).end();
    return true;
  };
  await using origin = originAt(server.url.replace("//", "//me:secret@").concat("/old/"));
  assert.is((await failureOf(origin.chunk(hash, sizeBytes))).code, "CHUNK_MISSING");
  assert.ok(root.length > 0);
});

served("what a redirect adds to the address is in no error: it may let in whoever has it", async (server, origin) => {
  const answers: readonly ((response: ServerResponse) => void)[] = [
    (response) => response.writeHead(500).end(),
    (response) => response.destroy(),
    (response) => response.writeHead(200, { "content-length": 5_000 }).end(),
    (response) => response.writeHead(200, { "content-encoding": "rot13" }).end("x"),
    (response) => response.writeHead(302, { location: "http://elsewhere.example/" }).end(),
    (response) => response.writeHead(302, { location: "?signature=s3cret" }).end(),
  ];
  for (const answer of answers) {
    server.misbehave = (request, response) => {
      if (!isForChunk(request)) return false;
      if (request.url?.endsWith("?signature=s3cret") !== true) {
        response.writeHead(302, { location: "?signature=s3cret" }).end();
      } else answer(response);
      return true;
    };
    const { message } = await failureOf(origin.chunk(hash, sizeBytes));
    assert.not.match(message, "s3cret");
    assert.match(message, "/chunks/ab/");
  }
});

served("a server that compresses unasked is understood", async (server, origin) => {
  const bytes = noise(1, sizeBytes);
  server.misbehave = (request, response) => {
    if (!isForChunk(request)) return false;
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(bytes));
    return true;
  };
  assert.ok(Buffer.from(bytes).equals(await origin.chunk(hash, sizeBytes)));
});

test("a host where nothing listens, and one that does not speak HTTP", async () => {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end("220 mail ready\r\n"));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const strange = await fails(`http://127.0.0.1:${port}`);
  assert.is(strange.message.replace(/.*json /, ""), "does not speak HTTP properly");
  const plain = await fails(`https://127.0.0.1:${port}`);
  assert.match(plain.message, /cannot be used: https:\/\/127/);
  server.close();
  await once(server, "close");
  const refused = await fails(`http://127.0.0.1:${port}/tree`);
  assert.is(
    refused.message,
    `the origin web cannot be used: http://127.0.0.1:${port}/tree/p2pcache.json refuses connections (ECONNREFUSED)`,
  );
  assert.is(refused.isLasting, false);
});

test("Retry-After is seconds or a date by the server's clock, and no more than a minute", () => {
  const date = "Sat, 21 Nov 2026 10:00:00 GMT";
  const wallMs = Date.parse(date) + 3_600_000;
  assert.is(retryAfter({ "retry-after": "7" }, wallMs), 7_000);
  assert.is(retryAfter({ "retry-after": "86400" }, wallMs), 60_000);
  assert.is(retryAfter({ "retry-after": "Sat, 21 Nov 2026 10:00:09 GMT", date }, wallMs), 9_000);
  assert.is(retryAfter({ "retry-after": "Sat, 21 Nov 2026 10:00:09 GMT" }, wallMs), 0);
  for (const text of ["", "soon", "-1", "1e9"]) assert.is(retryAfter({ "retry-after": text }, wallMs) ?? 0, 0, text);
});

test.run();

function die(): never {
  throw new Error("credentials were not sent");
}

async function fails(url: string): Promise<UnreachableError> {
  await using origin = originAt(url);
  return (await failureOf(origin.latestRecord(variant))) as UnreachableError;
}

function originAt(url: string): HttpOrigin {
  const timing = { connectMs: 1_000, answerMs: 1_000, idleMs: 1_000 };
  const options = { authorities: undefined, credentialsFile: undefined, clock: systemClock, network: "studio", timing };
  return new HttpOrigin({ name: "web", url, ...options });
}

function served(name: string, check: (server: StaticServer, origin: HttpOrigin, root: string) => Promise<void>): void {
  test(name, async () => {
    const root = emptyRepository();
    try {
      await using server = await StaticServer.open(root);
      await using origin = originAt(server.url);
      await check(server, origin, root);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });
}
