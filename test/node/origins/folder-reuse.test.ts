import { chmodSync, mkdtempSync, rmSync, statSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { FolderRepository } from "../../../node/origins/folder-origin.ts";
import { parseChunkHash } from "../../../protocol/hash.ts";
import { noise } from "../../support/noise.ts";

const hash = parseChunkHash("ab".repeat(32));
const bytes = noise(1, 10);
const dayMs = 86_400_000;

/** A publisher, and the one chunk that lies at its folder. */
function withChunk(name: string, check: (publisher: FolderRepository, chunk: string, path: string) => Promise<void>) {
  test(name, async () => {
    const path = mkdtempSync(join(tmpdir(), "folder-reuse-"));
    try {
      const publisher = await FolderRepository.open({ name: "filer", path, network: "studio", publishes: true });
      await publisher.putChunk(hash, bytes);
      await check(publisher, join(path, "chunks/ab", hash), path);
    } finally {
      rmSync(path, { recursive: true });
    }
  });
}

withChunk("what is reused is young by the folder's clock, however the publisher's goes", async (publisher, chunk) => {
  const longAgo = new Date(Date.now() - 90 * dayMs);
  utimesSync(chunk, longAgo, longAgo);
  const RealDate = Date;
  globalThis.Date = class extends RealDate {
    constructor() {
      super(RealDate.now() - 30 * dayMs);
    }
    static override now() {
      return RealDate.now() - 30 * dayMs;
    }
  } as typeof Date;
  try {
    assert.ok(await publisher.reuse(hash, bytes.length));
  } finally {
    globalThis.Date = RealDate;
  }
  assert.ok(statSync(chunk).mtimeMs > Date.now() - dayMs);
});

withChunk("a time is never set back", async (publisher, chunk) => {
  const later = new Date(Math.floor(Date.now() / 1000) * 1000 + dayMs);
  utimesSync(chunk, later, later);
  assert.ok(await publisher.reuse(hash, bytes.length));
  assert.is(statSync(chunk).mtimeMs, later.getTime());
});

withChunk("what belongs to somebody else and cannot be made young is written anew", async (publisher, chunk, path) => {
  if (process.getuid?.() !== 0) return; // Only root can be two users.
  utimesSync(chunk, 1_000_000, 1_000_000);
  for (const each of [path, join(path, "chunks"), join(path, "chunks/ab")]) chmodSync(each, 0o777);
  // The way to where the runner has its tests write is for its own user only.
  for (const each of [tmpdir(), dirname(tmpdir())]) chmodSync(each, statSync(each).mode | 0o011);
  process.seteuid!(65534);
  try {
    assert.is(await publisher.reuse(hash, bytes.length), false);
    await publisher.putChunk(hash, bytes);
    assert.ok(await publisher.reuse(hash, bytes.length));
  } finally {
    process.seteuid!(0);
  }
  assert.is(statSync(chunk).uid, 65534);
});

test.run();
