import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { chunkPath, packChunk } from "../../node/origins/objects.ts";
import type { Repository } from "../../node/ports.ts";
import { P2pCacheError } from "../../protocol/errors.ts";
import { parseChunkHash, parseVariantHash } from "../../protocol/hash.ts";
import { chunkBytesMax, policyFileBytesMax } from "../../protocol/limits.ts";
import { noise } from "../support/noise.ts";

/** A repository that a test has for itself, empty, and how to get rid of it. */
export interface OpenedRepository {
  readonly repository: Repository;
  /** Where its files lie, if it reads chunks in either form (docs/formats.md, "Origin folder"). */
  readonly root?: string;
  close(): Promise<void>;
}

/** Runs the rules that every origin which can be published to keeps. */
export function testRepository(name: string, open: () => Promise<OpenedRepository>): void {
  const test = suite(`${name} as an origin`);
  const rule: Rule = (text, check) => {
    test(text, async () => {
      const opened = await open();
      try {
        await check(opened.repository, opened.root);
      } finally {
        await opened.close();
      }
    });
  };
  chunkRules(rule);
  formRules(rule);
  recordRules(rule);
  policyRules(rule);
  abortRules(rule);
  test.run();
}

type Rule = (text: string, check: (repository: Repository, root: string | undefined) => Promise<void>) => void;

const hash = parseChunkHash("ab".repeat(32));
const variant = parseVariantHash("cd".repeat(32));
const otherVariant = parseVariantHash("ce".repeat(32));

function chunkRules(rule: Rule): void {
  rule("a chunk reads back as it was put", async (repository) => {
    for (const [i, length] of [1, 4096, chunkBytesMax].entries()) {
      const name = parseChunkHash(`0${i}`.repeat(32));
      await repository.putChunk(name, noise(i, length));
      assert.ok(Buffer.from(noise(i, length)).equals(await repository.chunk(name, length)));
    }
  });

  rule("a chunk that was not put is missing", async (repository) => {
    await repository.putChunk(hash, noise(1, 10));
    const missing = parseChunkHash("ac".repeat(32));
    assert.is(await repository.has(missing, 10), false);
    await rejects(repository.chunk(missing, 10), "CHUNK_MISSING");
  });

  rule("has says what was put", async (repository) => {
    assert.is(await repository.has(hash, 10), false);
    await repository.putChunk(hash, noise(1, 10));
    assert.is(await repository.has(hash, 10), true);
  });

  rule("a chunk that was cut short counts as missing, and is replaced", async (repository) => {
    await repository.putChunk(hash, noise(1, 10).subarray(0, 4));
    assert.is(await repository.has(hash, 10), false);
    await repository.putChunk(hash, noise(1, 10));
    assert.is(await repository.has(hash, 10), true);
    assert.equal([...(await repository.chunk(hash, 10))], [...noise(1, 10)]);
  });

  rule("a chunk of another size than asked for is corrupt", async (repository) => {
    await repository.putChunk(hash, noise(1, 10));
    await rejects(repository.chunk(hash, 9), "CHUNK_CORRUPT");
    await rejects(repository.chunk(hash, 11), "CHUNK_CORRUPT");
  });

  rule("a chunk that is there is left alone", async (repository) => {
    await repository.putChunk(hash, noise(1, 10));
    await repository.putChunk(hash, noise(2, 10));
    assert.equal([...(await repository.chunk(hash, 10))], [...noise(1, 10)]);
  });

  rule("a chunk put twice at a time is put once", async (repository) => {
    await Promise.all(Array.from({ length: 8 }, () => repository.putChunk(hash, noise(1, 100_000))));
    assert.is((await repository.chunk(hash, 100_000)).length, 100_000);
  });

  rule("what is put is not changed by who put it, nor by who reads it", async (repository) => {
    const bytes = Buffer.from(noise(1, 10));
    await repository.putChunk(hash, bytes);
    bytes.fill(0);
    (await repository.chunk(hash, 10)).fill(0);
    assert.equal([...(await repository.chunk(hash, 10))], [...noise(1, 10)]);
  });
}

/** What a publisher may have left: either form. */
function formRules(rule: Rule): void {
  const lines = Buffer.alloc(100_000, "a line that is there many times\n");

  rule("compressed and plain chunks read back, in any order", async (repository, root) => {
    if (root === undefined) return;
    const names = Array.from({ length: 12 }, (_, i) => parseChunkHash(i.toString(16).padStart(2, "0").repeat(32)));
    for (const [i, name] of names.entries()) {
      if (i % 4 === 0) await repository.putChunk(name, noise(i, 1000));
      else writeObject(root, chunkPath(name, "zst"), (await packChunk(lines)).bytes);
    }
    for (const [i, name] of names.entries()) {
      const expected = i % 4 === 0 ? noise(i, 1000) : lines;
      assert.ok(Buffer.from(expected).equals(await repository.chunk(name, expected.length)), `${i}`);
    }
  });

  rule("a compressed chunk that holds more or less, or is cut short, is corrupt", async (repository, root) => {
    if (root === undefined) return;
    await repository.putChunk(parseChunkHash("ad".repeat(32)), noise(1, 10));
    const { bytes } = await packChunk(lines);
    writeObject(root, chunkPath(hash, "zst"), bytes);
    await rejects(repository.chunk(hash, lines.length - 1), "CHUNK_CORRUPT");
    await rejects(repository.chunk(hash, lines.length + 1), "CHUNK_CORRUPT");
    writeObject(root, chunkPath(hash, "zst"), bytes.subarray(0, -2));
    await rejects(repository.chunk(hash, lines.length), "CHUNK_CORRUPT");
  });
}

function writeObject(root: string, path: string, bytes: Uint8Array): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), bytes);
}

function policyRules(rule: Rule): void {
  rule("a file of the policy reads back, and one that is not there is absent", async (repository, root) => {
    await repository.putRecord(variant, 0, Buffer.from("zero"));
    assert.is(await repository.policyFile?.("timestamp.json"), undefined);
    if (root === undefined) return;
    mkdirSync(join(root, "policy", "targets", "members"), { recursive: true });
    const names = ["timestamp.json", "3.members.lyon.json", `targets/members/${"ab".repeat(32)}.lyon.json`];
    for (const name of names) {
      writeFileSync(join(root, "policy", name), name);
      assert.is(textOf(await repository.policyFile?.(name)), name);
    }
  });

  rule("a file of the policy that is too large is refused", async (repository, root) => {
    if (root === undefined) return;
    await repository.putRecord(variant, 0, Buffer.from("zero"));
    mkdirSync(join(root, "policy"), { recursive: true });
    writeFileSync(join(root, "policy", "1.deny.json"), Buffer.alloc(policyFileBytesMax + 1));
    await rejects(repository.policyFile!("1.deny.json"), "BAD_FORMAT");
  });

  rule("a name that leads elsewhere is never asked for", async (repository, root) => {
    if (root === undefined) return;
    for (const name of ["../p2pcache.json", "targets/../../p2pcache.json", "/etc/passwd", "a/b.json", "x"]) {
      const failure = await repository.policyFile!(name).catch((error: Error) => error);
      assert.match((failure as Error).message, "broken promise", name);
    }
  });
}

function recordRules(rule: Rule): void {
  rule("a variant without a record has none", async (repository) => {
    assert.is(await repository.latestRecord(variant), undefined);
    await repository.putRecord(variant, 0, Buffer.from("zero"));
    assert.is(await repository.latestRecord(otherVariant), undefined);
  });

  rule("the highest revision is the latest record", async (repository) => {
    for (const [revision, text] of ["zero", "one", "two"].entries()) {
      await repository.putRecord(variant, revision, Buffer.from(text));
      assert.is(textOf(await repository.latestRecord(variant)), text);
    }
  });

  rule(
    "the latest of many revisions is found, also when some were added since it was last looked for",
    async (repository) => {
      for (let revision = 0; revision < 40; revision++) {
        await repository.putRecord(variant, revision, Buffer.from(`${revision}`));
        if (revision === 5 || revision > 36) assert.is(textOf(await repository.latestRecord(variant)), `${revision}`);
      }
    },
  );

  rule("a revision is written once: the same bytes again are fine, others are a conflict", async (repository) => {
    await repository.putRecord(variant, 0, Buffer.from("zero"));
    await repository.putRecord(variant, 0, Buffer.from("zero"));
    await rejects(repository.putRecord(variant, 0, Buffer.from("other")), "RECORD_CONFLICT");
    assert.is(textOf(await repository.latestRecord(variant)), "zero");
  });

  rule("of two who put one revision at a time, one is told of the conflict", async (repository) => {
    const texts = ["a", "b"];
    const puts = await Promise.allSettled(texts.map((text) => repository.putRecord(variant, 0, Buffer.from(text))));
    const winner = puts.findIndex(({ status }) => status === "fulfilled");
    assert.equal(puts.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    assert.is(textOf(await repository.latestRecord(variant)), texts[winner]);
  });

  rule("a revision that leaves a gap is refused", async (repository) => {
    const put = repository.putRecord(variant, 1, Buffer.from("one"));
    assert.match(await put.then(String, String), /broken promise/);
  });
}

function abortRules(rule: Rule): void {
  rule("an aborted call rejects with the signal's reason", async (repository) => {
    await repository.putChunk(hash, noise(1, 10));
    const reason = new Error("enough");
    const signal = AbortSignal.abort(reason);
    assert.is(await repository.chunk(hash, 10, { signal }).catch((error: unknown) => error), reason);
    assert.is(await repository.latestRecord(variant, { signal }).catch((error: unknown) => error), reason);
  });
}

async function rejects(promise: Promise<unknown>, code: string): Promise<void> {
  const error = await promise.then(
    () => assert.unreachable(`nothing was refused, instead of ${code}`),
    (reason: unknown) => reason,
  );
  assert.instance(error, P2pCacheError);
  assert.is((error as P2pCacheError).code, code);
}

function textOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes).toString();
}
