import { FormatError } from "./errors.ts";
import { bytesToHex } from "./hash.ts";
import type { ManifestRoot, SegmentRef } from "./manifest.ts";
import { OpenDirectories } from "./open-directories.ts";
import { compareUtf8, linkLeavesTree, shown } from "./paths.ts";
import {
  type ChunkRef,
  type ContinuationEntry,
  type LargeFileEntry,
  listedChunkBytesMin,
  type RunHeader,
  type SegmentPart,
  type SmallFileEntry,
} from "./segments.ts";

/** What the checker may be told by the record. */
export interface ManifestRules {
  /** Links may point out of the tree. */
  readonly externalLinks: boolean;
}

/**
 * Checks what no segment can say alone: order, parents, runs, large files that go on, links, names that collide, and
 * the root's totals. Takes the segments in order; memory grows with links and with the widest directories, not with bytes.
 */
export class ManifestChecker {
  readonly #root: ManifestRoot;
  readonly #rules: ManifestRules;
  readonly #directories = new OpenDirectories();
  readonly #links = new Map<string, string>();
  #collides = false;
  #lastPath = "";
  #files = 0;
  #bytes = 0;
  #large: { readonly path: string; readonly sizeBytes: number; listedBytes: number } | undefined;
  #run: { files: number; bytes: number } | undefined;

  constructor(root: ManifestRoot, rules: ManifestRules) {
    this.#root = root;
    this.#rules = rules;
  }

  /** Takes in the next segment. @throws {FormatError} naming the entry and the rule that it breaks. */
  add(parts: readonly SegmentPart[], ref: SegmentRef): void {
    if (this.#large !== undefined && parts[0]?.kind !== "continuation") {
      throw new FormatError(`the chunks of ${shown(this.#large.path)} do not go on in the next segment`);
    }
    let entries = 0;
    let chunks = 0;
    for (const [i, part] of parts.entries()) {
      if (this.#large !== undefined && i > 0)
        throw new FormatError(`the chunks of ${shown(this.#large.path)} are cut off`);
      if (part.kind !== "run" && part.kind !== "continuation") entries++;
      chunks += this.#part(part, i);
    }
    if (this.#run !== undefined) throw new FormatError("a run does not end in its segment");
    if (entries !== ref.entries || chunks !== ref.chunks) {
      throw new FormatError("a segment has other numbers of entries and chunks than the root says");
    }
  }

  /** All segments are in. @throws {FormatError} when the whole breaks a rule. */
  finish(): void {
    if (this.#large !== undefined) throw new FormatError(`the chunks of ${shown(this.#large.path)} are cut off`);
    if (this.#files !== this.#root.files) throw new FormatError("a manifest's files are not as many as its root says");
    if (this.#bytes !== this.#root.bytes) throw new FormatError("a manifest's files are not as long as its root says");
    // Not the other way round: what collides depends on the Unicode version, and a flag too many does no harm.
    if (this.#collides && !this.#root.caseSensitive) {
      throw new FormatError("names of a manifest collide, and its root does not say caseSensitive");
    }
    if (this.#rules.externalLinks) return;
    for (const [path, target] of this.#links) {
      if (!linkLeavesTree(path, this.#links)) continue;
      throw new FormatError(`the link ${shown(path)} -> ${shown(target)} leaves the tree`, {
        code: "LINK_LEAVES_TREE",
      });
    }
  }

  /** Checks one part. Answers how many chunks it lists. */
  #part(part: SegmentPart, place: number): number {
    switch (part.kind) {
      case "run":
        return this.#runHeader(part);
      case "continuation":
        return this.#continuation(part, place);
      case "directory":
        this.#entry(part.path, true);
        return 0;
      case "link":
        this.#entry(part.path);
        this.#links.set(part.path, part.target);
        return 0;
      case "small":
        this.#entry(part.path);
        this.#smallFile(part);
        return 0;
      case "large":
        this.#entry(part.path);
        return this.#largeFile(part);
    }
  }

  #entry(path: string, isDirectory = false): void {
    // The empty path is before all others, so the first entry passes.
    if (compareUtf8(path, this.#lastPath) <= 0) {
      const fault = path === this.#lastPath ? "stands twice" : "is out of order";
      throw new FormatError(`the entry ${shown(path)} ${fault}`);
    }
    const { hasParent, collides } = this.#directories.enter(path, isDirectory);
    if (!hasParent) {
      throw new FormatError(`the entry ${shown(path)} is not in a directory of the tree`);
    }
    this.#collides ||= collides;
    this.#lastPath = path;
  }

  #runHeader(run: RunHeader): number {
    if (this.#run !== undefined) throw new FormatError("a run begins in another run");
    this.#run = { files: run.files, bytes: run.chunk.sizeBytes };
    return 1;
  }

  #smallFile(file: SmallFileEntry): void {
    this.#files++;
    this.#bytes += file.sizeBytes;
    if (file.sizeBytes === 0) {
      // No item ever brings its bytes, so this is where they are verified.
      if (bytesToHex(file.digest) === hashOfNothing) return;
      throw new FormatError(`the empty file ${shown(file.path)} has a hash that is not that of nothing`);
    }
    if (this.#run === undefined) throw new FormatError(`the file ${shown(file.path)} is in no run`);
    this.#run.files--;
    this.#run.bytes -= file.sizeBytes;
    if (this.#run.bytes < 0 || (this.#run.files === 0) !== (this.#run.bytes === 0)) {
      throw new FormatError(`the file ${shown(file.path)} does not fit its run`);
    }
    if (this.#run.files === 0) this.#run = undefined;
  }

  #largeFile(file: LargeFileEntry): number {
    if (this.#run !== undefined) throw new FormatError(`the large file ${shown(file.path)} stands in a run`);
    this.#files++;
    this.#bytes += file.sizeBytes;
    this.#large = { path: file.path, sizeBytes: file.sizeBytes, listedBytes: 0 };
    return this.#listChunks(file.chunks);
  }

  #continuation(part: ContinuationEntry, place: number): number {
    const large = this.#large;
    if (large === undefined || place !== 0 || large.path !== part.path || large.listedBytes !== part.offsetBytes) {
      throw new FormatError(`the file ${shown(part.path)} goes on where it does not stop`);
    }
    if (part.chunks.length === 0) throw new FormatError(`the file ${shown(part.path)} goes on with nothing`);
    return this.#listChunks(part.chunks);
  }

  #listChunks(chunks: readonly ChunkRef[]): number {
    const large = this.#large!;
    for (const chunk of chunks) {
      large.listedBytes += chunk.sizeBytes;
      const isLast = large.listedBytes === large.sizeBytes;
      if (large.listedBytes > large.sizeBytes || (!isLast && chunk.sizeBytes < listedChunkBytesMin)) {
        throw new FormatError(`the chunks of ${shown(large.path)} do not fit its size`);
      }
    }
    if (large.listedBytes === large.sizeBytes) this.#large = undefined;
    return chunks.length;
  }
}

/** BLAKE3 of no bytes (BLAKE3-team/BLAKE3, test_vectors.json). */
const hashOfNothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
