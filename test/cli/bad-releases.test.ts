// runs unprivileged
// deadline: 240 s
import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { publish } from "../../node/publish.ts";
import { encodeCanonical } from "../../protocol/cbor.ts";
import { utf8Bytes } from "../../protocol/paths.ts";
import { seededRandom } from "../../protocol/random.ts";
import { decodeEnvelope, encodeEnvelope } from "../../protocol/record.ts";
import { encodeSegment } from "../../protocol/segments.ts";
import type { Variant } from "../../protocol/variant.ts";
import { type Ended, errorIn, Machine } from "../support/command-line.ts";
import { type LyingRelease, releaseLie } from "../support/lying-release.ts";
import { directory, file, hash, link } from "../support/manifests.ts";
import { kill } from "../support/studio.ts";
import { listTree, makeTree } from "../support/trees.ts";

const test = suite("bad releases");
const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };

/** A segment with one directory of this path, whatever the path is. */
const pathIs = (path: string): LyingRelease => ({ segments: [encodeCanonical([1, [[0, utf8Bytes(path)]]])] });
const entriesAre = (...parts: Parameters<typeof encodeSegment>[0]): LyingRelease => {
  return { segments: [encodeSegment(parts)], counts: { entries: parts.length, chunks: 0 } };
};
const content = utf8Bytes("the bytes of a file");
const run = { kind: "run", chunk: { digest: hash(content), sizeBytes: content.length }, files: 1 } as const;

const lies: Readonly<Record<string, readonly [LyingRelease, RegExp]>> = {
  "a path with ..": [pathIs("d/../x"), /d\/\.\.\/x/],
  "an absolute path": [pathIs("/etc/passwd"), /\/etc\/passwd/],
  "a path with a NUL": [pathIs("a\0b"), /a\\u0000b|NUL/],
  "a path with a newline": [pathIs("a\nb"), /a\\nb|newline/],
  "a link that leaves the tree": [entriesAre(link("way-out", "../../etc")), /way-out/],
  "an entry that stands twice": [entriesAre(directory("twice"), directory("twice")), /twice/],
  "entries out of order": [entriesAre(directory("b"), directory("a")), /out of order/],
  "a wrong total": [
    { ...entriesAre(directory("a"), file("b", 0)), root: { files: 1, bytes: 77 } },
    /not as long as its root says/,
  ],
  "a total of 2^53 bytes": [{ ...entriesAre(file("a", 0)), root: { files: 1, bytes: 2 ** 53 } }, /bytes/],
  "a file of 2^53 bytes": [entriesAre({ ...file("huge", 1), sizeBytes: 2 ** 53 }), /huge/],
  "a billion entries in the root": [{ ...entriesAre(directory("a")), root: { entries: 1e9 } }, /1000000000 entries/],
  "a billion entries in a segment": [
    { segments: [Uint8Array.from([0x82, 1, 0x9a, 0x3b, 0x9a, 0xca, 0x00])] },
    /manifest segment/,
  ],
  "a segment of a newer version": [{ segments: [encodeCanonical([2, []])] }, /version 2.*\n {2}upgrade p2pcache/],
  "a file with another hash than its run's bytes": [
    {
      segments: [encodeSegment([run, { ...file("two-faced", content.length), digest: hash(utf8Bytes("others")) }])],
      counts: { entries: 1, chunks: 1 },
      root: { files: 1, bytes: content.length, chunks: 1 },
      chunks: [content],
    },
    /two-faced/,
  ],
};

test("a signed release whose manifest is a lie: exit 4, one line, nothing half done, and the node stays up", async () => {
  await using machine = await Machine.open();
  const honest = join(machine.studio.path, "source", "foo");
  makeTree(honest, seededRandom(1), { smallFiles: 5, largeMib: 0 });
  await machine.studio.publish(variant, honest);
  const node = await machine.studio.start(machine.config);
  for (const [at, [what, [lie, names]]] of Object.entries(lies).entries()) {
    const name = `lie${at}`;
    await releaseLie(machine.studio, { ...variant, name }, lie);
    const ended = await machine.run(["fetch", `${name}-1.0.0`, "--no-progress"]);
    assert.is(ended.code, 4, `${what}: ${ended.stderr}`);
    assert.is(ended.stdout, "", what);
    assert.match(ended.stderr, new RegExp(`^p2pcache: studio:${name}-1\\.0\\.0: [^\\n]+\\n( {2}[^\\n]+\\n)?$`), what);
    assert.match(ended.stderr, names, `${what}: ${ended.stderr}`);
    assert.equal(placed(machine), [], what);
    assert.equal(readdirSync(join(machine.path, "cache", ".sys", "p2pcache", "staging")), [], what);
  }
  const good = await machine.run(["fetch", "foo-1.0.0", "--no-progress"]);
  assert.equal([good.code, listTree(good.stdout.trimEnd())], [0, listTree(honest)]);
  assert.equal(await node.client.fsck(), { checked: 1, faults: [] });
  await kill(node, "SIGTERM");
});

/** A rule about one honest release, whose files at the origin are then changed. */
function rule(text: string, check: (machine: Machine, tree: string) => Promise<void>): void {
  test(text, async () => {
    await using machine = await Machine.open();
    const tree = join(machine.studio.path, "source", "foo");
    makeTree(tree, seededRandom(1), { smallFiles: 5, largeMib: 4 });
    await machine.studio.publish(variant, tree);
    const node = await machine.studio.start(machine.config);
    await check(machine, tree);
    assert.equal(placed(machine), []);
    assert.is((await node.client.status()).apiVersion, 1);
    await kill(node, "SIGTERM");
  });
}

const fetchFoo = (machine: Machine): Promise<Ended> => machine.run(["fetch", "foo-1.0.0", "--json"]);

for (const [what, spoil] of [
  [
    "with wrong bytes",
    (path: string) =>
      writeFileSync(
        path,
        readFileSync(path).map((byte) => byte ^ 1),
      ),
  ],
  ["that is cut off", (path: string) => truncateSync(path, 1000)],
] as const) {
  rule(`a chunk ${what} at the only origin: exit 4, and the origin is named`, async (machine) => {
    spoil(largestFile(join(machine.studio.path, "origin", "chunks")));
    const ended = await fetchFoo(machine);
    assert.equal([ended.code, errorIn(ended).code], [4, "CHUNK_CORRUPT"]);
    assert.match(errorIn(ended).message, /item \d+ is wrong at the origin filer/);
  });
}

for (const [what, spoil, says] of [
  ["that are none of its key", (sig: Uint8Array) => sig.map((byte) => byte ^ 1), /signature/],
  ["that are not there", () => undefined, /signed/],
] as const) {
  rule(`a record with signatures ${what}: exit 5`, async (machine) => {
    const path = largestFile(join(machine.studio.path, "origin", "variants"));
    const { body, signatures } = decodeEnvelope(readFileSync(path));
    const spoilt = signatures.flatMap(({ keyid, sig }) => {
      const other = spoil(sig);
      return other === undefined ? [] : [{ keyid, sig: other }];
    });
    writeFileSync(path, encodeEnvelope({ body, signatures: spoilt }));
    const ended = await fetchFoo(machine);
    assert.equal([ended.code, errorIn(ended).exit], [5, 5], ended.stderr);
    assert.match(errorIn(ended).message, says);
  });
}

rule("a record that is garbage: exit 4", async (machine) => {
  writeFileSync(largestFile(join(machine.studio.path, "origin", "variants")), "{}");
  assert.is((await fetchFoo(machine)).code, 4);
});

test("two records of one revision that disagree: exit 5, both named, and status goes on saying so", async () => {
  await using machine = await Machine.open();
  const { studio } = machine;
  const tree = join(studio.path, "source", "foo");
  makeTree(tree, seededRandom(1), { smallFiles: 5, largeMib: 0 });
  await studio.publish(variant, tree);
  const path = join(studio.path, "other-origin");
  mkdirSync(path);
  const second = `[[origin]]\nname = "other"\nkind = "folder"\npath = "${path}"\n`;
  const publisher = studio.settings(studio.configure("publisher", { more: second }));
  writeFileSync(join(tree, "more"), "x");
  const elsewhere = { ...publisher, publish: { ...publisher.publish, origin: "other" } };
  const { payload } = await publish(elsewhere, { variant, treePath: tree, requires: [] });
  studio.configure("machine", { more: second });
  const node = await studio.start(machine.config);
  const ended = await fetchFoo(machine);
  assert.equal([ended.code, errorIn(ended).code], [5, "RECORD_CONFLICT"]);
  assert.equal(errorIn(ended).message.match(/[0-9a-f]{64}/g)?.length, 2);
  assert.match(errorIn(ended).message, payload);
  const status = await machine.run(["node", "status"]);
  assert.match(status.stdout, /warning: .*disagree/);
  assert.equal(placed(machine), []);
  await kill(node, "SIGTERM");
});

test.run();

/** What lies under the cache outside `.sys`. */
function placed(machine: Machine): string[] {
  return readdirSync(join(machine.path, "cache")).filter((name) => name !== ".sys");
}

function largestFile(path: string): string {
  const files = (readdirSync(path, { recursive: true }) as string[]).map((name) => join(path, name));
  const sizes = files.map((each) => ({ each, stat: statSync(each) })).filter(({ stat }) => stat.isFile());
  return sizes.sort((a, b) => b.stat.size - a.stat.size)[0]!.each;
}
