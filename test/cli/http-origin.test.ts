// runs unprivileged
// deadline: 300 s
// mostly waits
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import { Authority } from "../support/certificates.ts";
import { type Ended, errorIn, p2pcache } from "../support/command-line.ts";
import { misbehaviours, slow } from "../support/misbehaviour.ts";
import { needs } from "../support/needs.ts";
import { Nginx } from "../support/nginx.ts";
import { type Misbehaviour, StaticServer } from "../support/static-server.ts";
import { Studio } from "../support/studio.ts";
import { listTree, makeTree } from "../support/trees.ts";

/** What a user sees of an origin over HTTP: one line that names the origin and the thing, and nothing half-written. */
const test = suite("http origins");
const variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" } as const;

let studio: Studio;
let source: string;

test.before(async () => {
  studio = await Studio.open();
  source = join(studio.path, "packages", "foo", "1.0.0");
  makeTree(source, seededRandom(3), { smallFiles: 20, largeMib: 4 });
  writeFileSync(join(source, "readme"), "a line that is there many times\n".repeat(20_000));
  await studio.publish(variant, source);
});

test.after(async () => {
  await studio[Symbol.asyncDispose]();
});

if (needs("nginx", "nginx-light")) {
  test("a fetch from nginx, with nobody else there, places the tree", async () => {
    await using server = await Nginx.open({ root: join(studio.path, "origin") });
    await withMachine(`url = "${server.url}"`, async (run) => {
      const fetched = await run(["fetch", "foo-1.0.0"]);
      assert.is(fetched.code, 0, fetched.stderr);
      assert.equal(listTree(fetched.stdout.trimEnd()), listTree(source));
      const status = JSON.parse((await run(["node", "status", "--json"])).stdout) as { origins: unknown };
      assert.equal(status.origins, [{ name: "web", state: "ok" }]);
      assert.match((await run(["node", "status"])).stdout, /^origin web: ok$/m);
    });
  });

  test("a server that limits requests is asked again when it wants to be", async () => {
    const http = "limit_req_zone $binary_remote_addr zone=own:1m rate=30r/s;";
    const server = "limit_req zone=own burst=4 nodelay; add_header Retry-After 1 always;";
    await using nginx = await Nginx.open({ root: join(studio.path, "origin"), http, server });
    await withMachine(`url = "${nginx.url}"`, async (run) => {
      const fetched = await run(["fetch", "foo-1.0.0"]);
      assert.is(fetched.code, 0, fetched.stderr);
    });
  });
}

if (needs("openssl", "openssl")) {
  test("a certificate that nobody here believes: exit 6, and what to do", async () => {
    using authority = new Authority();
    await using server = await StaticServer.open(join(studio.path, "origin"), authority.certify("server"));
    await withMachine(`url = "${server.url}"`, async (run, cache) => {
      const ended = await run(["fetch", "foo-1.0.0"]);
      fails(ended, 6, /the origin web cannot be used: https:\S+ has a certificate that is not believed/, /ca_file/);
      assert.equal(placed(cache), []);
    });
    await withMachine(`url = "${server.url}"\nca_file = "${authority.caFile}"`, async (run) => {
      assert.is((await run(["fetch", "foo-1.0.0"])).code, 0);
    });
  });
}

test("an origin that is missing: exit 6", async () => {
  const server = await StaticServer.open(studio.path);
  await server[Symbol.asyncDispose]();
  await withMachine(`url = "${server.url}"`, async (run) => {
    fails(await run(["fetch", "foo-1.0.0"]), 6, /the origin web cannot be used: \S+ refuses connections/);
    const { code, exit } = errorIn(await run(["fetch", "foo-1.0.0", "--json"]));
    assert.equal([code, exit], ["UNREACHABLE", 6]);
  });
});

test("a folder that is missing: exit 6", async () => {
  const gone = join(studio.path, "gone");
  const config = studio.configure("without", { origin: `[[origin]]\nname = "web"\nkind = "folder"\npath = "${gone}"` });
  const ended = await p2pcache(["fetch", "foo-1.0.0", "--no-progress", "--config", config]);
  await p2pcache(["node", "stop", "--config", config]);
  fails(ended, 6, /the origin web cannot be used: .*gone/);
});

/** What a server does wrong, and how a fetch ends that has no other source. */
const faults: readonly (readonly [
  what: string,
  misbehave: Misbehaviour,
  code: number,
  words: RegExp,
  flags?: string[],
])[] = [
  ["that is no repository", answering(404), 6, /the origin web cannot be used: \S+p2pcache\.json is not there/],
  ["that fails", answering(500), 6, /the origin web cannot be used: \S+p2pcache\.json answers 500/],
  [
    "that redirects elsewhere",
    redirecting,
    6,
    /the origin web cannot be used: \S+ redirects to http:\/\/elsewhere\.example/,
  ],
  ["that wants to know who we are", answering(401), 6, /the origin web cannot be used: \S+ answers 401 Unauthorized/],
  ["that shows a page to log in", answering(200), 4, /p2pcache\.json is not JSON/],
  ["that lacks the release", lacking("/variants/"), 3, /neither an origin nor a peer has a release/],
  ["that lacks the chunks", lacking("/chunks/"), 3, /items of studio:foo-1\.0\.0 are nowhere to be had/],
  ["that cuts chunks short", misbehaviours.short, 4, /item 0 is wrong at the origin web \(web has 5 bytes for chunk/],
  [
    "that sends more than there is",
    misbehaviours.longer,
    4,
    /item 0 is wrong at the origin web \(http\S+ has 4194304 bytes/,
  ],
  ["that sends for ever", misbehaviours.endless, 4, /item 0 is wrong at the origin web/],
  [
    "that is silent",
    misbehaviours.silent,
    6,
    /not done within 4 s, and 5 MB of 5 MB of \S+ are missing: the origin web gave no answer in \d s/,
    ["--timeout", "4 s"],
  ],
  ["that is slow", slow, 6, /not done within 4 s/, ["--timeout", "4 s"]],
  [
    "that breaks off",
    misbehaviours.truncating,
    6,
    /not done within 4 s, and 5 MB of 5 MB of \S+ are missing: the origin web cannot be used: \S+ closed/,
    ["--timeout", "4 s"],
  ],
];
for (const [what, misbehave, code, words, flags = []] of faults) {
  test(`a server ${what}: exit ${code}`, async () => {
    await using server = await StaticServer.open(join(studio.path, "origin"));
    server.misbehave = misbehave;
    await withMachine(`url = "${server.url}"`, async (run, cache) => {
      const ended = await run(["fetch", "foo-1.0.0", ...flags]);
      fails(ended, code, words);
      assert.equal(placed(cache), []);
    });
  });
}

test("an origin in trouble is passed over for the next one, and status says why", async () => {
  await using bad = await StaticServer.open(join(studio.path, "origin"));
  await using good = await StaticServer.open(join(studio.path, "origin"));
  bad.misbehave = misbehaviours.failing;
  const more = `url = "${bad.url}"\n[[origin]]\nname = "second"\nkind = "http"\nurl = "${good.url}"`;
  await withMachine(more, async (run) => {
    assert.is((await run(["fetch", "foo-1.0.0"])).code, 0);
    const { origins } = JSON.parse((await run(["node", "status", "--json"])).stdout) as {
      origins: { name: string; state: string; reason?: string }[];
    };
    assert.match(origins[0]!.state, /^(unsteady|down)$/);
    assert.match(origins[0]!.reason!, /the origin web cannot be used: \S+ answers 500/);
    assert.equal(origins[1], { name: "second", state: "ok" });
  });
});

test("an origin whose policy is never is not asked", async () => {
  await using server = await StaticServer.open(join(studio.path, "origin"));
  await withMachine(`url = "${server.url}"\npolicy = "never"`, async (run) => {
    assert.is((await run(["fetch", "foo-1.0.0"])).code, 3);
    assert.equal(server.asked, []);
  });
});

test.run();

let machines = 0;

/** A machine with nothing but that origin, whose node ends with the check. */
async function withMachine(
  origin: string,
  check: (run: (words: readonly string[]) => Promise<Ended>, cache: string) => Promise<void>,
): Promise<void> {
  const name = `m${machines++}`;
  const config = studio.configure(name, { origin: `[[origin]]\nname = "web"\nkind = "http"\n${origin}` });
  const run = (words: readonly string[]) => p2pcache([...words, "--config", config, "--no-progress"]);
  const cache = join(studio.path, name, "cache");
  mkdirSync(cache, { recursive: true });
  try {
    await check(run, cache);
  } finally {
    await run(["node", "stop"]);
  }
}

/** One line that says it, and at most one more that says what to do. */
function fails({ code, stdout, stderr }: Ended, expected: number, words: RegExp, hint?: RegExp): void {
  assert.equal([code, stdout], [expected, ""], stderr);
  const [line, next = "", ...more] = stderr.trimEnd().split("\n");
  assert.ok(words.test(line!), stderr);
  assert.match(line!, /^p2pcache: .*studio:foo-1\.0\.0/);
  assert.equal(more, []);
  if (hint !== undefined) assert.match(next, hint);
}

/** What Rez would see. */
function placed(cache: string): string[] {
  return readdirSync(cache).filter((name) => !name.startsWith("."));
}

function answering(status: number): Misbehaviour {
  return (_, response) => {
    response.writeHead(status).end("<html>a page</html>");
    return true;
  };
}

function redirecting(...[, response]: Parameters<Misbehaviour>): boolean {
  response.writeHead(302, { location: "http://elsewhere.example/login?token=s3cret" }).end();
  return true;
}

function lacking(part: string): Misbehaviour {
  return (request, response) => {
    if (request.url?.includes(part) !== true) return false;
    response.writeHead(404).end();
    return true;
  };
}
