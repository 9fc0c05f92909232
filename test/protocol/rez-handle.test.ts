import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  nextSuffix,
  pythonRepr,
  type RezHandle,
  rezCacheDirectory,
  rezHandle,
  rezHashDirectory,
  sameHandle,
} from "../../protocol/rez-handle.ts";

interface Vector {
  note: string;
  handle: RezHandle;
  python_repr: string;
  sha1: string;
  hash_dir: string;
  cache_dir: string;
}

/** Made by running Rez 3.4.0 (REZ.md). */
const fixture = JSON.parse(readFileSync(new URL("../fixtures/rez-handles.json", import.meta.url), "utf8")) as {
  vectors: Vector[];
  same_hash_dir: { handle: RezHandle; hash_dir: string }[];
  next_suffix: [string[], string | { error: string }][];
};
const sha1 = (bytes: Uint8Array) => createHash("sha1").update(bytes).digest();
const sha1Hex = (text: string) => createHash("sha1").update(text).digest("hex");

test("there are 36 vectors", () => assert.is(fixture.vectors.length, 36));

for (const { note, handle, python_repr, sha1: digest, hash_dir, cache_dir } of fixture.vectors) {
  test(`a handle is hashed as Rez hashes it: ${note}, ${JSON.stringify(handle.variables.location)} ${cache_dir.slice(0, 40)}`, () => {
    assert.is(pythonRepr(handle), python_repr);
    assert.is(sha1Hex(pythonRepr(handle)), digest);
    assert.is(rezHashDirectory(handle, sha1), hash_dir);
    assert.is(rezCacheDirectory(handle, sha1), cache_dir);
  });
}

test("two handles may share a hash directory", () => {
  for (const { handle, hash_dir } of fixture.same_hash_dir) assert.is(rezHashDirectory(handle, sha1), hash_dir);
});

test("a handle is made from the variant and the place of its repository", () => {
  const versioned = { kind: "rez", repository: "studio", name: "bar", version: "2.1", index: 0 } as const;
  assert.equal(rezHandle(versioned, "/srv/rez/packages"), fixture.vectors[1]!.handle);
  assert.equal(rezHandle({ kind: "rez", repository: "studio", name: "nover" }, "/srv/rez/packages"), {
    key: "filesystem.variant",
    variables: { location: "/srv/rez/packages", name: "nover", index: null, repository_type: "filesystem" },
  });
});

test("text beyond the first plane and lone surrogates are escaped as Python does", () => {
  const repr = (location: string) => pythonRepr(rezHandle({ kind: "rez", repository: "s", name: "n" }, location));
  assert.ok(repr("/\u{e0001}").includes("'/\\U000e0001'"));
  assert.ok(repr("/\ud800").includes("'/\\ud800'"));
  assert.ok(repr("/\u2028\u3000").includes("'/\\u2028\\u3000'"));
});

test("a name that leaves its directory is never made a path", () => {
  const handle = rezHandle({ kind: "rez", repository: "s", name: ".." }, "/srv");
  assert.throws(() => rezCacheDirectory(handle, sha1), "broken promise");
});

test("handles are equal whatever the order of their keys", () => {
  const { handle } = fixture.vectors[0]!;
  const { location, name, version, index, repository_type } = handle.variables;
  const turned = { variables: { version, repository_type, name, index, location }, key: handle.key };
  assert.ok(sameHandle(JSON.parse(JSON.stringify(turned)), handle));
});

test("handles differ by any value, by a missing key and by a further one", () => {
  const { handle } = fixture.vectors[1]!;
  const { variables } = handle;
  for (const other of [
    undefined,
    null,
    [],
    "text",
    { key: handle.key },
    { ...handle, key: "memory.variant" },
    { ...handle, more: 1 },
    { ...handle, variables: { ...variables, index: 1 } },
    { ...handle, variables: { ...variables, index: null } },
    { ...handle, variables: { ...variables, index: "0" } },
    { ...handle, variables: { ...variables, more: 1 } },
    { ...handle, variables: { ...variables, version: undefined } },
    fixture.vectors[5]!.handle,
  ]) {
    assert.not.ok(sameHandle(other, handle), JSON.stringify(other));
  }
});

test("to Python, false is 0", () => {
  const { handle } = fixture.vectors[1]!;
  assert.ok(sameHandle({ ...handle, variables: { ...handle.variables, index: false } }, handle));
});

test("the next suffix is the first free one, and Rez's own choice where nothing was removed", () => {
  for (const [taken, rez] of fixture.next_suffix) {
    const suffix = nextSuffix(new Set(taken));
    assert.match(suffix, /^[a-z]+$/);
    assert.not.ok(taken.includes(suffix));
    const hasGaps = taken.some((name, at) => name !== nextSuffix(new Set(taken.slice(0, at))));
    const isRezBug = typeof rez !== "string" || taken.includes(rez);
    if (!hasGaps && !isRezBug) assert.is(suffix, rez);
  }
});

test("suffixes go on from z to aa, and from zz to aaa", () => {
  const taken = new Set<string>();
  for (let count = 0; count < 26; count++) taken.add(nextSuffix(taken));
  assert.is(nextSuffix(taken), "aa");
  taken.add("aa");
  assert.is(nextSuffix(taken), "ab");
  while (taken.size < 26 + 26 * 26) taken.add(nextSuffix(taken));
  assert.is(nextSuffix(taken), "aaa");
  taken.delete("c");
  assert.is(nextSuffix(taken), "c");
});

test.run();
