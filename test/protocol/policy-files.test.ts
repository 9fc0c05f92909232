import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FormatError, VersionError } from "../../protocol/errors.ts";
import { parsePayloadId } from "../../protocol/hash.ts";
import { policyFileBytesMax } from "../../protocol/limits.ts";
import { Policy } from "../../protocol/policy.ts";
import {
  denyPath,
  encodePolicyFile,
  membersPath,
  type PolicyReaders,
  parsePolicy,
  publishersPath,
  retiredPath,
} from "../../protocol/policy-files.ts";

const test = suite("the files of a policy");
const at = "2026-11-21T09:00:00Z";
/** Keys are their own ids here. */
const read: PolicyReaders = {
  key: (text) => {
    if (!text.startsWith("ed25519:")) throw new Error("no key");
    return { keyid: text.slice(8), key: new Uint8Array(32) };
  },
  timeMs: (text) => Number(text.slice(0, 4)),
};
const publishers = {
  publishers: [{ key: "ed25519:a", names: ["studio:*"], label: "" }],
  retired: [{ key: "ed25519:b", names: ["*"], label: "", at, lists: 1 }],
  revoked: [{ key: "ed25519:c", at, reason: "stolen" }],
};
const digest = "0f".repeat(32);

test("each verdict about a signer comes from its own list", () => {
  const policy = new Policy(parse({ [publishersPath]: publishers, [retiredPath("b", 0)]: { records: [digest] } }));
  const kinds = ["a", "b", "c", "d"].map((keyid) => policy.signer(keyid, "studio:maya", digest).kind);
  assert.equal(kinds, ["trusted", "trusted", "revoked", "unknown"]);
  assert.is(policy.signer("a", "film:maya", digest).kind, "otherNames");
  assert.is(policy.signer("b", "studio:maya", "1f".repeat(32)).kind, "retired", "what it signed after it was retired");
  assert.equal([policy.keyOf("a")?.length, policy.keyOf("b")?.length, policy.keyOf("c")], [32, 32, undefined]);
});

test("a retired publisher's listed records count only where its patterns let it release them", () => {
  const retired = [{ ...publishers.retired[0], names: ["studio:rig_*"] }];
  const files = { [publishersPath]: { ...publishers, retired }, [retiredPath("b", 0)]: { records: [digest] } };
  const policy = new Policy(parse(files));
  assert.is(policy.signer("b", "studio:rig_face", digest).kind, "trusted");
  assert.equal(policy.signer("b", "studio:maya", digest), { kind: "otherNames", names: ["studio:rig_*"] });
  assert.is(policy.signer("b", "studio:maya", "1f".repeat(32)).kind, "retired");
});

test("a machine of two sites is a member for as long as either says", () => {
  const policy = new Policy(
    parse({
      [membersPath("a")]: { members: [{ peer: "p", labels: [], until: "2026-01-01T00:00:00Z" }] },
      [membersPath("b")]: { members: [{ peer: "p", labels: ["farm"], until: "2027-01-01T00:00:00Z" }] },
    }),
  );
  assert.equal(policy.member("p", 2026), { kind: "member", site: "b", labels: ["farm"] });
  assert.equal(policy.member("p", 2027), { kind: "expired", site: "b", untilMs: 2027 });
  assert.equal(policy.member("q", 2026), { kind: "stranger" });
});

test("a denial is found by its payload", () => {
  const payload = parsePayloadId("ab".repeat(32));
  const policy = new Policy(parse({ [denyPath]: { denied: [{ payload, by: "ana", at, reason: "" }] } }));
  assert.equal(policy.denial(payload), { payload, by: "ana", at, reason: "" });
  assert.is(policy.denial(parsePayloadId("ac".repeat(32))), undefined);
});

test("a policy without files says nothing, and trusts nobody", () => {
  assert.is(new Policy(parse({})).signer("a", "studio:maya", digest).kind, "unknown");
});

const broken: readonly (readonly [path: string, value: unknown])[] = [
  [publishersPath, { ...publishers, publishers: [{ key: "rsa:a", names: [], label: "" }] }],
  [publishersPath, { ...publishers, publishers: [{ key: "ed25519:a", names: [""], label: "" }] }],
  [publishersPath, { ...publishers, publishers: [{ key: "ed25519:a", names: ["*"], label: "a\nb" }] }],
  [publishersPath, { ...publishers, retired: [{ ...publishers.retired[0], lists: -1 }] }],
  [publishersPath, { ...publishers, retired: [{ ...publishers.retired[0], lists: 1e9 }] }],
  [publishersPath, { ...publishers, revoked: [{ key: "ed25519:c", at: "yesterday", reason: "" }] }],
  [publishersPath, { publishers: [] }],
  [publishersPath, publishers],
  [membersPath("a"), { members: [{ peer: "no/peer", labels: [] }] }],
  [membersPath("a"), { members: [{ peer: "p", labels: [], until: 5 }] }],
  [membersPath("a"), { members: "all" }],
  [denyPath, { denied: [{ payload: "ab", by: "", at, reason: "" }] }],
  [denyPath, { denied: [{ payload: digest, by: "", at, reason: "x".repeat(2000) }] }],
];
for (const [path, value] of broken) {
  test(`${path} is refused for ${JSON.stringify(value).slice(0, 70)}`, () => {
    assert.throws(
      () => parse({ [path]: value as object }),
      (error: unknown) => error instanceof FormatError,
    );
  });
}

test("bytes that are no policy are refused", () => {
  for (const text of ["", "[]", '"x"', "{", `{"version":1,"denied":${"[".repeat(40)}${"]".repeat(40)}}`]) {
    refuses(text, FormatError);
  }
  refuses('{"version":2,"denied":[]}', VersionError);
  refuses(" ".repeat(policyFileBytesMax + 1), FormatError);
});

test.run();

function parse(files: Readonly<Record<string, object>>) {
  const targets = Object.entries(files).map(([path, value]) => [path, encodePolicyFile(value)] as const);
  return parsePolicy(new Map(targets), read);
}

function refuses(text: string, kind: new (...words: never[]) => Error): void {
  const targets = new Map([[denyPath, new TextEncoder().encode(text)]]);
  assert.throws(
    () => parsePolicy(targets, read),
    (error: unknown) => error instanceof kind,
  );
}
