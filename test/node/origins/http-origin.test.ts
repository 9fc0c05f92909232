// runs unprivileged
// deadline: 60 s
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../../node/clock.ts";
import { readAuthorities } from "../../../node/origin-files.ts";
import { HttpOrigin, type HttpOriginOptions } from "../../../node/origins/http-origin.ts";
import { chunkPath, packChunk, recordPath } from "../../../node/origins/objects.ts";
import { HealthyOrigin } from "../../../node/origins/with-health.ts";
import { RetryingOrigin } from "../../../node/origins/with-retry.ts";
import { SingleFlightOrigin } from "../../../node/origins/with-single-flight.ts";
import { parseChunkHash, parseVariantHash } from "../../../protocol/hash.ts";
import { testRepository } from "../../conformance/origin-conformance.ts";
import { Authority } from "../../support/certificates.ts";
import { needs } from "../../support/needs.ts";
import { Nginx } from "../../support/nginx.ts";
import { noise } from "../../support/noise.ts";
import { emptyRepository, openServed } from "../../support/served-folder.ts";
import { StaticServer } from "../../support/static-server.ts";
import { failureOf } from "../../support/swarm-member.ts";

const hash = parseChunkHash("ab".repeat(32));
const variant = parseVariantHash("cd".repeat(32));
const hasNginx = needs("nginx", "nginx-light");

testRepository("a bare static server", () =>
  openServed(async (root) => {
    const server = await StaticServer.open(root);
    const origin = originAt(server.url);
    return { origin, parts: [origin, server] };
  }),
);

if (hasNginx) {
  testRepository("nginx", () =>
    openServed(async (root) => {
      const server = await Nginx.open({ root });
      const origin = originAt(server.url);
      return { origin, parts: [origin, server] };
    }),
  );

  testRepository("nginx behind all wrappers, under a prefix, with gzip for everybody", () =>
    openServed(async (root) => {
      const server = await Nginx.open({
        root,
        server: `location /deep/tree/ { alias ${root}/; gzip on; gzip_types *; }`,
      });
      const origin = originAt(`${server.url}/deep/tree`);
      const wrapped = new SingleFlightOrigin(new RetryingOrigin(origin, Math.random));
      const healthy = new HealthyOrigin(
        wrapped,
        systemClock,
        () => false,
        () => undefined,
      );
      return { origin: healthy, parts: [origin, server] };
    }),
  );
}

if (hasNginx && needs("openssl", "openssl")) {
  test("nginx with TLS of a private authority and a password", async () => {
    using authority = new Authority();
    const root = repositoryWith({ [chunkPath(hash)]: noise(1, 1000) });
    const users = join(authority.path, "users");
    writeFileSync(users, "builder:{PLAIN}open sesame\n", { mode: 0o644 });
    chmodSync(authority.path, 0o755);
    await using server = await Nginx.open({
      root,
      certificate: authority.certify("server"),
      server: `auth_basic studio; auth_basic_user_file ${users};`,
    });
    const authorities = await readAuthorities(authority.caFile);
    const credentialsFile = join(authority.path, "credentials");
    writeFileSync(credentialsFile, "basic builder:open sesame\n", { mode: 0o600 });
    await using origin = originAt(server.url, { authorities, credentialsFile });
    assert.is((await origin.chunk(hash, 1000)).length, 1000);

    await using stranger = originAt(server.url, { credentialsFile });
    const unbelieved = await failureOf(stranger.chunk(hash, 1000));
    assert.match(unbelieved.message, /^the origin web cannot be used: https:.*certificate that is not believed/);
    await using nobody = originAt(server.url, { authorities });
    assert.match((await failureOf(nobody.chunk(hash, 1000))).message, /answers 401 Unauthorized$/);
    const url = server.url.replace("//", "//builder:open%20sesame@");
    await using inUrl = originAt(url, { authorities });
    assert.is((await inUrl.chunk(hash, 1000)).length, 1000);
    rmSync(root, { recursive: true });
  });

  test("an expired certificate, and one of another host, are refused by what is wrong with them", async () => {
    using authority = new Authority();
    const root = emptyRepository();
    const authorities = await readAuthorities(authority.caFile);
    for (const [certificate, words, hint] of [
      [authority.certify("late", { isExpired: true }), /expired/, /clock/],
      [authority.certify("other", { names: "DNS:elsewhere.example" }), /made out to another name/, /name/],
    ] as const) {
      await using server = await StaticServer.open(root, certificate);
      await using origin = originAt(server.url, { authorities });
      const error = await failureOf(origin.latestRecord(variant));
      assert.match(error.message, words);
      assert.match((error as unknown as { hint: string }).hint, hint);
    }
    rmSync(root, { recursive: true });
  });
}

served("a first fetch of one revision takes two round trips, a later one takes one", async (server, origin, root) => {
  put(root, recordPath(variant, 0), Buffer.from("zero"));
  assert.is(String(await origin.latestRecord(variant)), "zero");
  const both = [`GET /${recordPath(variant, 0)}`, `HEAD /${recordPath(variant, 1)}`];
  assert.equal([server.asked[0], server.asked.slice(1).sort()], ["GET /p2pcache.json", both]);
  await origin.latestRecord(variant);
  assert.equal(server.asked.slice(3).sort(), both);
});

served(
  "a variant of a thousand revisions takes few looks, and is looked for from where it was",
  async (server, origin, root) => {
    for (let revision = 0; revision <= 1000; revision++)
      put(root, recordPath(variant, revision), Buffer.from(`${revision}`));
    assert.is(String(await origin.latestRecord(variant)), "1000");
    assert.ok(server.asked.length < 120, `${server.asked.length}`);
    const before = server.asked.length;
    assert.is(String(await origin.latestRecord(variant)), "1000");
    assert.is(server.asked.length - before, 2);
    // An origin that was put back from a backup.
    rmSync(join(root, dirname(recordPath(variant, 0))), { recursive: true });
    put(root, recordPath(variant, 0), Buffer.from("again"));
    assert.is(String(await origin.latestRecord(variant)), "again");
  },
);

served("a server that has everything is not asked for ever", async (server, origin) => {
  server.misbehave = (request, response) => {
    if (request.url === "/p2pcache.json") return false;
    response.end(request.method === "HEAD" ? undefined : "<html>my application</html>");
    return true;
  };
  assert.match(String(await origin.latestRecord(variant)), /application/);
  assert.ok(server.asked.length < 200, `${server.asked.length}`);
});

served(
  "in which form chunks lie is learnt: a repository of one form costs one request a chunk",
  async (server, origin, root) => {
    const lines = Buffer.alloc(10_000, "line\n");
    const names = Array.from({ length: 20 }, (_, i) => parseChunkHash(i.toString(16).padStart(2, "0").repeat(32)));
    for (const name of names) put(root, chunkPath(name, "zst"), (await packChunk(lines)).bytes);
    for (const name of names) assert.ok(lines.equals(await origin.chunk(name, lines.length)));
    assert.ok(server.asked.length <= 1 + 20 + 3, `${server.asked.length}`);
  },
);

served("a server that labels .zst objects as an encoding is understood", async (server, origin, root) => {
  const lines = Buffer.alloc(10_000, "line\n");
  const { bytes } = await packChunk(lines);
  put(root, chunkPath(hash, "zst"), bytes);
  server.misbehave = (request, response) => {
    if (request.url?.endsWith(".zst") !== true) return false;
    response.writeHead(200, { "content-encoding": "zstd" }).end(bytes);
    return true;
  };
  assert.ok(lines.equals(await origin.chunk(hash, lines.length)));
});

served(
  "what lacks p2pcache.json, or is of another network or a newer format, is refused by name",
  async (_, origin, root) => {
    const description = join(root, "p2pcache.json");
    for (const [text, code, message] of [
      [undefined, "UNREACHABLE", /the origin web cannot be used: http:.*p2pcache\.json is not there/],
      ['{"formatVersion":1,"network":"other"}', "OTHER_NETWORK", /is of the network "other", not "studio"/],
      ['{"formatVersion":2,"network":"studio"}', "UNKNOWN_VERSION", /format version 2/],
      ["<html>log in</html>", "BAD_FORMAT", /p2pcache\.json is not JSON/],
    ] as const) {
      if (text === undefined) rmSync(description);
      else writeFileSync(description, text);
      for (const work of [origin.chunk(hash, 10), origin.latestRecord(variant)]) {
        const error = await failureOf(work);
        assert.is(error.code, code);
        assert.match(error.message, message);
      }
    }
  },
);

served(
  "a tree that goes away while it is in use is unreachable, and works again once it is back",
  async (_, origin, root) => {
    put(root, chunkPath(hash), noise(1, 10));
    assert.is((await origin.chunk(hash, 10)).length, 10);
    const tree = `${root}-gone`;
    renameSync(root, tree);
    assert.is((await failureOf(origin.chunk(hash, 10))).code, "UNREACHABLE");
    assert.is((await failureOf(origin.latestRecord(variant))).code, "UNREACHABLE");
    renameSync(tree, root);
    assert.is((await origin.chunk(hash, 10)).length, 10);
  },
);

served(
  "many requests share a few connections, and none is left when the origin is closed",
  async (server, origin, root) => {
    const names = Array.from({ length: 64 }, (_, i) => parseChunkHash(i.toString(16).padStart(2, "0").repeat(32)));
    for (const name of names) put(root, chunkPath(name), noise(1, 5000));
    await Promise.all(names.map((name) => origin.chunk(name, 5000)));
    assert.ok(server.connections <= 8, `${server.connections}`);
    await origin[Symbol.asyncDispose]();
    assert.is((await failureOf(origin.chunk(hash, 10))).code, "UNREACHABLE");
  },
);

served("new credentials in the file are used from the next refusal on, and never shown", async (server, _, root) => {
  const file = join(root, "credentials");
  const seen: (string | undefined)[] = [];
  let token = "first";
  server.misbehave = (request, response) => {
    seen.push(request.headers.authorization);
    if (request.headers.authorization === `Bearer ${token}`) return false;
    response.writeHead(401).end();
    return true;
  };
  const write = (text: string, mode = 0o600) => {
    rmSync(file, { force: true });
    writeFileSync(file, text, { mode });
  };
  write("bearer first\n");
  put(root, chunkPath(hash), noise(1, 10));
  await using origin = originAt(server.url, { credentialsFile: file });
  assert.is((await origin.chunk(hash, 10)).length, 10);
  token = "second";
  write("Bearer second\n");
  assert.is((await origin.chunk(hash, 10)).length, 10);
  assert.equal(seen.slice(-2), ["Bearer first", "Bearer second"]);
  token = "third";
  const refused = await failureOf(origin.chunk(hash, 10));
  assert.match(refused.message, /answers 401/);
  for (const [text, mode] of [
    ["bearer fourth\n", 0o640],
    ["digest fourth", 0o600],
    ["bearer a b fourth", 0o600],
    ["basic fourth", 0o600],
  ] as const) {
    write(text, mode);
    const error = await failureOf(origin.chunk(hash, 10));
    assert.is(error.exit, 2);
    assert.match(error.message, "credentials");
    assert.not.match(JSON.stringify({ ...error, message: error.message, stack: error.stack }), "fourth");
  }
});

test.run();

function originAt(url: string, more: Partial<HttpOriginOptions> = {}): HttpOrigin {
  const options = {
    authorities: undefined,
    credentialsFile: undefined,
    clock: systemClock,
    network: "studio",
    ...more,
  };
  return new HttpOrigin({ name: "web", url, ...options });
}

function repositoryWith(files: Readonly<Record<string, Uint8Array>>): string {
  const root = emptyRepository();
  for (const [path, bytes] of Object.entries(files)) put(root, path, bytes);
  return root;
}

function put(root: string, path: string, bytes: Uint8Array): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), bytes);
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
