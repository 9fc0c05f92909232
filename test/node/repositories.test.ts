// runs unprivileged
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { lookAtPaths } from "../../node/path-looks.ts";
import { RealRepositories, realRepositories } from "../../node/repositories.ts";

inDirectory("links of repositories are resolved, and what does not exist stays as it is written", async (home) => {
  mkdirSync(join(home, "real"));
  symlinkSync(join(home, "real"), join(home, "link"));
  const mounts = new Map([
    ["a", join(home, "link")],
    ["b", join(home, "none")],
  ]);
  const expected = [
    ["a", join(home, "real")],
    ["b", join(home, "none")],
  ];
  assert.equal([...(await realRepositories(mounts))], expected);
  assert.equal([...(await realRepositories(new Map()))], []);
});

inDirectory("paths are looked at by a process of its own, which is not waited for", async (home) => {
  writeFileSync(join(home, "file"), "");
  const [file, none] = [join(home, "file"), join(home, "none")];
  const looks = await lookAtPaths([home, file, none], 20_000);
  assert.equal(
    [...looks.values()],
    [
      { kind: "directory", realPath: home },
      { kind: "other", realPath: file },
      { kind: "failed", code: "ENOENT" },
    ],
  );
  // Nothing starts in no time: as silent as a mount that hangs.
  const startedMs = performance.now();
  assert.equal([...(await lookAtPaths([home], 0)).values()], [{ kind: "silent" }]);
  assert.ok(performance.now() - startedMs < 1_000);
});

inDirectory(
  "a node takes a silent mount's place from the last time, or else as it is written, and says so",
  async (home) => {
    mkdirSync(join(home, "real"));
    symlinkSync(join(home, "real"), join(home, "link"));
    const mounts = new Map([["studio", join(home, "link")]]);
    {
      using unknown = await RealRepositories.open(mounts, home, 0);
      assert.equal([...unknown.paths], [["studio", join(home, "link")]]);
      assert.match(unknown.warnings[0]!, /the mount of the repository studio \(.*link\) does not answer/);
      await unknown.remember();
    }
    {
      using answered = await RealRepositories.open(mounts, home, 20_000);
      assert.equal([[...answered.paths], answered.warnings], [[["studio", join(home, "real")]], []]);
      await answered.remember();
    }
    unlinkSync(join(home, "link"));
    using silent = await RealRepositories.open(mounts, home, 0);
    assert.equal([...silent.paths], [["studio", join(home, "real")]]);
    assert.equal(JSON.parse(readFileSync(join(home, "repositories.json"), "utf8")), {
      [join(home, "link")]: join(home, "real"),
    });
  },
);

inDirectory(
  "a reload while a mount is silent takes the new places at once, and keeps them when it answers",
  async (home) => {
    for (const name of ["real", "other"]) mkdirSync(join(home, name));
    symlinkSync(join(home, "real"), join(home, "link"));
    const studio = ["studio", join(home, "link")] as const;
    using repositories = await RealRepositories.open(new Map([studio]), home, 0);
    const { paths } = repositories;
    assert.equal([[...paths], repositories.warnings.length], [[["studio", join(home, "link")]], 1]);
    // Another repository comes, and the first one is still silent.
    await repositories.change(new Map([studio, ["site", join(home, "other")]]), 0);
    assert.equal([...paths.keys()], ["studio", "site"]);
    assert.match(repositories.warnings[0]!, /the mount of the repository studio /);
    // It goes from the configuration: nobody waits for it, and it does not come back.
    await repositories.change(new Map([["site", join(home, "other")]]), 20_000);
    assert.equal([[...paths], repositories.warnings], [[["site", join(home, "other")]], []]);
    // It is back there, and answers.
    await repositories.change(new Map([studio]), 20_000);
    assert.equal([[...paths], repositories.warnings], [[["studio", join(home, "real")]], []]);
    await repositories.remember();
    // Silent again after another reload: its place is known.
    await repositories.change(new Map([studio]), 0);
    assert.equal([[...paths], repositories.warnings.length], [[["studio", join(home, "real")]], 1]);
  },
);

test.run();

function inDirectory(name: string, check: (home: string) => Promise<void>): void {
  test(name, async () => {
    const home = realpathSync(mkdtempSync(join(tmpdir(), "repositories-")));
    try {
      await check(home);
    } finally {
      rmSync(home, { recursive: true });
    }
  });
}
