import { randomBytes } from "node:crypto";
import { constants, copyFileSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";
import { deepestDirectory } from "./directories.ts";
import { mountOf } from "./mounts.ts";

export interface DiskLimits {
  readonly maxBytes: number | undefined;
  readonly freeBytesMin: number | undefined;
}

/** Whether a fetch finds room: bytes against `cache.free_bytes_min` and `cache.max_bytes`, and inodes. */
export function* checkDisk(cache: string, state: string, limits: DiskLimits): Generator<CheckLine> {
  const { bsize, blocks, bavail, files, ffree } = statfsSync(deepestDirectory(cache));
  const [totalBytes, freeBytes] = [blocks * bsize, bavail * bsize];
  const freeBytesMin = limits.freeBytesMin ?? Math.floor(totalBytes * 0.05);
  const maxBytes = limits.maxBytes ?? Math.floor(totalBytes * 0.8);
  const facts = `${sizeText(freeBytes)} of ${sizeText(totalBytes)} are free on the cache's disk`;
  if (freeBytes <= freeBytesMin) {
    yield failure(
      "disk",
      `${facts}, and cache.free_bytes_min keeps ${sizeText(freeBytesMin)}: every fetch is refused`,
      "free some space, lower cache.free_bytes_min, or move cache.path to a larger disk",
    );
  } else if (maxBytes > totalBytes - freeBytesMin) {
    yield warning(
      "disk",
      `${facts}: the cache can never reach its cache.max_bytes of ${sizeText(maxBytes)}`,
      "lower cache.max_bytes, so that it is the cache that ends first and not the disk",
    );
  } else yield ok("disk", facts);
  if (files > 0 && ffree < inodesMin) {
    yield failure(
      "inodes",
      `${ffree} of ${files} inodes are free on the cache's disk, and a package takes up to 100,000`,
      "delete many small files there, or make the filesystem anew with more inodes",
    );
  } else yield ok("inodes", files === 0 ? "this filesystem does not count inodes" : `${ffree} of ${files} are free`);
  const left = statfsSync(deepestDirectory(state));
  if (left.bavail * left.bsize >= stateBytesMin) return;
  const message = `${sizeText(left.bavail * left.bsize)} are free where ${state} lies, and the node's index and log grow there`;
  yield failure("disk", message, "free some space, or set another node.state");
}

/** Whether files can share their blocks: then what a new version has in common with an old one takes no room. */
export function* checkReflink(cache: string): Generator<CheckLine> {
  const place = [join(cache, ".sys", "p2pcache"), cache].find(
    (path) => statSync(path, { throwIfNoEntry: false }) !== undefined,
  );
  if (place === undefined) return yield ok("reflink", "not tried: the cache is not there yet");
  const path = join(place, `.doctor-${randomBytes(8).toString("hex")}`);
  try {
    writeFileSync(path, "x", { flag: "wx", mode: 0o600 });
    copyFileSync(path, `${path}.copy`, constants.COPYFILE_FICLONE_FORCE);
    yield ok("reflink", `files can share blocks on ${typeOf(place)}`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EACCES" || code === "EROFS") yield ok("reflink", `not tried: ${place} cannot be written by us`);
    else yield ok("reflink", `${typeOf(place)} cannot share blocks between files (${code}): they are copied`);
  } finally {
    for (const each of [path, `${path}.copy`]) rmSync(each, { force: true });
  }
}

function typeOf(path: string): string {
  return mountOf(path)?.type ?? "this filesystem";
}

/** As people write it: `1.5 GB`. */
function sizeText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${Math.round((bytes / 1000 ** power) * 10) / 10} ${units[power]}`;
}

/** The store keeps 1,000 of them free, and the smallest package takes some. */
const inodesMin = 2_000;
const stateBytesMin = 64_000_000;
