import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Log, type LogOptions, logEvents, openLog } from "../../node/log.ts";
import { withoutSecrets } from "../../node/redact.ts";
import { DeadlineError } from "../../protocol/errors.ts";

async function lines(options: Partial<LogOptions>, use: (log: Log) => void): Promise<string[]> {
  const written: string[] = [];
  const { log } = await openLog({ format: "json", level: "info", write: (line) => written.push(line), ...options });
  use(log);
  return written;
}

test("a line is one JSON object with its level, time, process, event and facts, written when it is logged", async () => {
  const [line, ...more] = await lines({}, (log) => log("info", "peer-joined", { peer: "12D3", name: "ws\n02" }));
  assert.equal(more, []);
  assert.ok(line!.endsWith("}\n"));
  const { time, ...rest } = JSON.parse(line!);
  assert.match(time, /^20\d\d-\d\d-\d\dT[\d:.]+Z$/);
  assert.equal(rest, { level: "info", pid: process.pid, event: "peer-joined", peer: "12D3", name: "ws\n02" });
});

test("what matters less than the level is left out, and the level may change", async () => {
  const written: string[] = [];
  const opened = await openLog({ format: "json", level: "warn", write: (line) => written.push(line) });
  opened.log("info", "peer-left", {});
  opened.log("warn", "peer-refused", {});
  opened.level = "debug";
  opened.log("debug", "fetch-local", {});
  assert.equal(
    written.map((line) => JSON.parse(line).event),
    ["peer-refused", "fetch-local"],
  );
});

test("for people a line has its facts behind the event, and no line breaks out of it", async () => {
  const [line] = await lines({ format: "pretty" }, (log) =>
    log("warn", "peer-refused", { peer: "12D3", name: "a\u009bb", reason: "x\nINFO: all is well" }),
  );
  assert.match(line!, /^\[20[-\d: ]+\] WARN: peer-refused peer="12D3" name="a b" reason="x\\nINFO: all is well"\n$/);
});

test("no secret gets into a line, wherever in the facts it stands", async () => {
  const secret = "s3cr3t-s3cr3t";
  const facts = {
    url: `https://user:${secret}@packages.example/x`,
    unescaped: `https://user:p@${secret}@packages.example/x`,
    token: secret,
    key: secret,
    networkKey: { privateKey: secret },
    nested: { list: [{ authorization: `Bearer ${secret}` }], map: new Map([["password", secret]]) },
    text: `sent Authorization: Bearer ${secret} to https://h/x?a=1&access_token=${secret}&b=2`,
    reason: new DeadlineError(`https://${secret}@h/ is slow`),
    pem: `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`,
    cut: `-----BEGIN ED25519 PRIVATE KEY-----\n${secret}`,
    bytes: new TextEncoder().encode(secret),
  };
  for (const format of ["json", "pretty"] as const) {
    const [line] = await lines({ format }, (log) => log("warn", "store-problem", facts));
    assert.not(line!.includes(secret), line);
    assert.ok(line!.includes("packages.example") && line!.includes("a=1") && line!.includes("b=2"), line);
  }
});

test("what is no secret is shown as it is", () => {
  const facts = {
    peer: "12D3KooW",
    address: "/ip4/192.0.2.1/tcp/4001",
    keyid: "ab".repeat(32),
    url: "https://h:8443/a@b/c",
    bytes: { peers: 1, origin: 2 },
    list: [1, true, null, undefined],
  };
  assert.equal(withoutSecrets(facts), facts);
});

test("facts that cannot be written do not throw", async () => {
  const circular: Record<string, unknown> = { big: 1n, when: new Set([1]) };
  circular.self = circular;
  const [line] = await lines({}, (log) => log("warn", "store-problem", circular));
  assert.is(JSON.parse(line!).event, "store-problem");
});

test("no event outside of the table can be logged, nor with another level than stands there", async () => {
  const written = await lines({}, (log) => {
    // @ts-expect-error there is no such event
    log("info", "something-else", {});
    // @ts-expect-error it is a warning
    log("info", "peer-refused", {});
  });
  assert.is(written.length, 2);
  for (const [event, { text }] of Object.entries(logEvents)) {
    assert.match(event, /^[a-z]+(-[a-z]+)+$/);
    assert.match(text, /^[A-Z].*\.$/);
  }
});

test.run();
