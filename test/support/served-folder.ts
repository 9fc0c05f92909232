import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { describeRepository, descriptionPath } from "../../node/origins/objects.ts";
import type { Origin, Repository } from "../../node/ports.ts";
import type { OpenedRepository } from "../conformance/origin-conformance.ts";

/** A repository that is written as a folder, and read through another origin: as sites with a web server have it. */
export function servedRepository(writes: Repository, reads: Origin): Repository {
  return {
    name: reads.name,
    latestRecord: (variant, options) => reads.latestRecord(variant, options),
    chunk: (hash, sizeBytes, options) => reads.chunk(hash, sizeBytes, options),
    policyFile: async (file, options) => await reads.policyFile?.(file, options),
    has: (hash, sizeBytes) => writes.has(hash, sizeBytes),
    reuse: (hash, sizeBytes) => writes.reuse(hash, sizeBytes),
    putChunk: (hash, bytes) => writes.putChunk(hash, bytes),
    putRecord: (variant, revision, envelope) => writes.putRecord(variant, revision, envelope),
  };
}

/** An empty repository in a directory, for a server to serve. */
export function emptyRepository(network = "studio"): string {
  const path = mkdtempSync(join(tmpdir(), "p2pcache-served-"));
  chmodSync(path, 0o755);
  writeFileSync(join(path, descriptionPath), describeRepository(network));
  return path;
}

/** A folder, what serves it, and the origin that reads from there, for the conformance suite. */
export async function openServed(
  serve: (root: string) => Promise<{ readonly origin: Origin; readonly parts: readonly AsyncDisposable[] }>,
): Promise<OpenedRepository> {
  const root = emptyRepository();
  const { origin, parts } = await serve(root);
  const writes = await FolderRepository.open({ name: "filer", path: root, network: "studio", publishes: true });
  return {
    repository: servedRepository(writes, origin),
    root,
    close: async () => {
      for (const part of parts) await part[Symbol.asyncDispose]();
      rmSync(root, { recursive: true });
    },
  };
}
