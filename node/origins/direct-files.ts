import {
  type FolderFiles,
  type FoundFile,
  type InPlaceFound,
  type InPlaceRequest,
  pathExists,
  readWhole,
} from "./folder-files.ts";
import { readRanges } from "./in-place.ts";

/** Calls in this very process: for whoever publishes. An abort is answered at once; the call behind it ends when it does. */
export const directFiles: FolderFiles = {
  read: (path: string, bytesMax: number, signal?: AbortSignal): Promise<FoundFile> =>
    abortable(readWhole(path, bytesMax, own), signal),
  exists: (path: string, signal?: AbortSignal): Promise<boolean> => abortable(pathExists(path), signal),
  readInPlace: (request: InPlaceRequest, signal?: AbortSignal): Promise<InPlaceFound> =>
    abortable(readRanges(request, own), signal),
};

function own(sizeBytes: number): Uint8Array {
  return Buffer.allocUnsafeSlow(sizeBytes);
}

/** What work answers, or the reason of an abort, whichever comes first. */
export async function abortable<Result>(work: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (signal === undefined) return await work;
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([aborted.promise, work]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
