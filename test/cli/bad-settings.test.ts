// runs unprivileged
import { readFileSync, writeFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, Machine } from "../support/command-line.ts";

const test = suite("bad settings");

const faults: Readonly<Record<string, readonly [from: string, to: string, says: RegExp]>> = {
  "an unknown key": [
    "max_bytes",
    "max_bites",
    /unknown key cache\.max_bites \(from .*\)\n {2}did you mean cache\.max_bytes/,
  ],
  "a bad size": ['"100 GB"', '"100 parsecs"', /cache\.max_bytes: "100 parsecs" is not .*\n {2}write "/],
  "a bad duration": [
    "[trust]",
    '[transfer]\ntimeout = "soon"\n[trust]',
    /transfer\.timeout: "soon" is not .*\n {2}write "/,
  ],
  "a rate of nothing": [
    'policy = "auto"',
    'policy = "limited"\nrate = "0 MB/s"',
    /origin\[0\]\.rate: "0 MB\/s" is not a rate above zero .*\n {2}write "/,
  ],
  "slots of nothing": [
    'policy = "auto"',
    'policy = "limited"\nslots = 0',
    /origin\[0\]\.slots: 0 is not a whole number above zero .*\n {2}write /,
  ],
  "a word where a flag of the file is meant": ["mdns = false", 'mdns = "maybe"', /node\.mdns: "maybe" is not/],
};
for (const [what, [from, to, says]] of Object.entries(faults)) {
  test(`${what}: exit 2 from every command that reads the configuration, and how it is written`, async () => {
    await using machine = await Machine.open();
    const good = readFileSync(machine.config, "utf8");
    const bad = good.replace(from, to);
    assert.is.not(bad, good);
    writeFileSync(machine.config, bad);
    for (const words of [
      ["node", "run"],
      ["fetch", "foo-1.0.0"],
      ["config", "check"],
    ]) {
      const plain = await machine.run(words);
      assert.equal([plain.code, plain.stdout], [2, ""]);
      assert.match(plain.stderr, /^p2pcache: [^\n]+\n {2}[^\n]+\n$/);
      assert.match(plain.stderr, says);
    }
    const json = await machine.run(["fetch", "foo-1.0.0", "--json"]);
    assert.equal([errorIn(json).code, errorIn(json).exit], ["USAGE", 2]);
    writeFileSync(machine.config, good);
  });
}

test("a bad duration in a flag: exit 2, and the flag is named", async () => {
  await using machine = await Machine.open();
  const { code, stderr } = await machine.run(["fetch", "foo-1.0.0", "--timeout=soon"]);
  assert.is(code, 2);
  assert.match(stderr, /--timeout/);
});

test.run();
