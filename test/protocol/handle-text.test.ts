import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { P2pCacheError, UsageError } from "../../protocol/errors.ts";
import { parseHandleText, parseRxt, type Repositories } from "../../protocol/handle-text.ts";
import type { Variant } from "../../protocol/variant.ts";

const one: Repositories = new Map([["studio", "/srv/rez/packages"]]);
const two: Repositories = new Map([
  ["studio", "/srv/rez/packages"],
  ["beta", "/srv/rez/packages/beta"],
]);
const foo = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" } as const;
const hex = "0123456789abcdef".repeat(4);

function variantOf(text: string, repositories = one): Variant | undefined {
  const thing = parseHandleText(text, repositories);
  return thing.kind === "variant" ? thing.variant : undefined;
}

function refusal(text: string, repositories = one): P2pCacheError {
  try {
    parseHandleText(text, repositories);
  } catch (error) {
    if (error instanceof P2pCacheError) return error;
    throw error;
  }
  throw new Error(`was accepted: ${text}`);
}

test("a Rez URI names a variant by its path", () => {
  assert.equal(variantOf("/srv/rez/packages/foo/1.0.0/package.py[0]"), { ...foo, index: 0 });
  assert.equal(variantOf("/srv/rez/packages/foo/1.0.0/package.yaml[12]"), { ...foo, index: 12 });
  assert.equal(variantOf("/srv/rez/packages/foo/1.0.0/package.py[]"), foo);
  assert.equal(variantOf(" /srv/rez/packages/foo/1.0.0/package.py\n"), foo);
  assert.equal(variantOf("/srv/rez/packages/nover/package.py[0]"), {
    ...{ kind: "rez", repository: "studio", name: "nover", index: 0 },
  });
});

test("of repositories inside each other the innermost is meant", () => {
  assert.is(variantOf("/srv/rez/packages/beta/foo/1.0.0/package.py", two)?.repository, "beta");
  assert.is(variantOf("/srv/rez/packages/foo/1.0.0/package.py", two)?.repository, "studio");
});

test("a path beside a repository is not in it", () => {
  const error = refusal("/srv/rez/packages2/foo/1.0.0/package.py[0]");
  assert.is(error.code, "REPOSITORY_NOT_CONFIGURED");
  assert.match(error.message, "/srv/rez/packages2/foo/1.0.0");
  assert.match(error.message, "repositories.<id>");
});

test("a path that is no package says what was understood", () => {
  assert.match(refusal("/srv/rez/packages/foo/1.0.0").message, "is a path, but not of a package");
  assert.match(refusal("/srv/rez/packages/foo/1.0.0/lib/package.py").message, "too deep");
  assert.is(refusal("/srv/rez/packages/../1.0.0/package.py").code, "USAGE");
  assert.is(refusal("/srv/rez/packages//1.0.0/package.py").code, "USAGE");
});

test("a short text splits at the first dash or slash", () => {
  assert.equal(variantOf("foo-1.0.0[0]"), { ...foo, index: 0 });
  assert.equal(variantOf("foo/1.0.0[0]"), { ...foo, index: 0 });
  assert.equal(variantOf("studio:foo-1.0.0"), foo);
  assert.equal(variantOf("foo-1.0.0[]"), foo);
  assert.equal(variantOf("my.pkg_tool-1.0.0-beta.2_rc1"), {
    ...{ kind: "rez", repository: "studio", name: "my.pkg_tool", version: "1.0.0-beta.2_rc1" },
  });
  assert.equal(variantOf("nover[3]"), { kind: "rez", repository: "studio", name: "nover", index: 3 });
  assert.is(variantOf("beta:foo-1.0.0", two)?.repository, "beta");
});

test("without a repository the text is ambiguous unless one is configured", () => {
  const error = refusal("foo-1.0.0", two);
  assert.instance(error, UsageError);
  assert.is(error.exit, 2);
  assert.match(error.message, "ambiguous");
  assert.match(error.message, "studio, beta");
  assert.is(refusal("foo-1.0.0", new Map()).code, "REPOSITORY_NOT_CONFIGURED");
});

test("a repository that is not configured is named with its setting", () => {
  const error = refusal("film:foo-1.0.0");
  assert.is(error.code, "REPOSITORY_NOT_CONFIGURED");
  assert.is(error.exit, 2);
  assert.match(error.message, "repositories.film");
});

test("a JSON handle is in the repository that lies exactly there", () => {
  const variables = { location: "/srv/rez/packages", name: "foo", version: "1.0.0", repository_type: "filesystem" };
  const text = (more: object) =>
    JSON.stringify({ key: "filesystem.variant", variables: { ...variables, index: null, ...more } });
  assert.equal(variantOf(text({})), foo);
  assert.equal(variantOf(text({ index: 2 })), { ...foo, index: 2 });
  assert.is(variantOf(text({ location: "/srv/rez/packages/beta" }), two)?.repository, "beta");
  assert.is(refusal(text({ location: "/srv/rez/packages/deeper" }), two).code, "REPOSITORY_NOT_CONFIGURED");
  assert.match(refusal(text({ location: "packages" })).message, "relative");
  assert.is(refusal(text({ name: "../foo" })).code, "USAGE");
  assert.is(refusal(text({ index: -1 })).code, "USAGE");
  assert.is(refusal(text({ repository_type: "memory" })).code, "USAGE");
  assert.match(refusal('{"key": ').message, "not JSON");
});

test("hashes name a variant or a payload", () => {
  assert.equal(parseHandleText(`variant:${hex}`, new Map()) as unknown, { kind: "variantHash", hash: hex });
  assert.equal(parseHandleText(`payload:${hex}`, new Map()) as unknown, { kind: "payload", payload: hex });
  assert.is(refusal("variant:abc").code, "USAGE");
  assert.is(refusal(`payload:${hex.toUpperCase()}`).exit, 2);
});

test("anything else is a usage error that repeats the text and lists the forms", () => {
  for (const text of [
    "",
    "foo bar",
    "foo==1.0.0",
    "foo-1.0.0[x]",
    "foo-1.0.0[0][1]",
    "foo-..",
    "a:b:c",
    "-foo",
    "foo-1/2",
  ]) {
    const error = refusal(text);
    assert.is(error.code, "USAGE", text);
    assert.ok(error.message.includes(text), text);
    assert.match(error.hint ?? "", "[repository:]foo-1.0.0[0]");
  }
  assert.ok(refusal("x ".repeat(5000)).message.length < 300);
});

const sample = () => JSON.parse(readFileSync(new URL("../fixtures/sample.rxt", import.meta.url), "utf8"));

test("a context gives its variants in order", () => {
  const { variants, skipped, caching } = parseRxt(sample(), one);
  assert.equal(skipped, []);
  assert.ok(caching);
  assert.equal(
    variants.map(({ name, version, index }) => [name, version, index]),
    [
      ["foo", "1.0.0", undefined],
      ["python", "3.11.7", undefined],
      ["bar", "2.1", 0],
      ["hashed", "1.2.3", 0],
      ["nover", undefined, undefined],
      ["odd", "1.0.0-beta.2_rc1", undefined],
      ["many", "1.0", 11],
    ],
  );
});

test("a context's handles that cannot be cached here are skipped with a reason", () => {
  const rxt = sample();
  rxt.resolved_packages[0].variables.location = "packages";
  rxt.resolved_packages[1].variables.location = "/mnt/artist/packages";
  rxt.resolved_packages[2] = { key: "memory.variant" };
  rxt.resolved_packages.push(rxt.resolved_packages[3]);
  const { variants, skipped } = parseRxt(rxt, one);
  assert.is(variants.length, 4);
  assert.is(skipped[0]?.text, "foo-1.0.0");
  assert.match(skipped[0]?.reason ?? "", "relative");
  assert.match(skipped[1]?.reason ?? "", "/mnt/artist/packages");
  assert.match(skipped[2]?.reason ?? "", "not the handle");
});

test("a context made without package cache says so", () => {
  assert.not.ok(parseRxt({ ...sample(), package_caching: false }, one).caching);
  assert.ok(parseRxt({ resolved_packages: [] }, one).caching);
});

test("what is no resolved context is refused", () => {
  for (const json of [undefined, null, [], {}, { resolved_packages: null }, { resolved_packages: {} }]) {
    assert.throws(() => parseRxt(json, one), /not a resolved Rez context/);
  }
});

test.run();
