import type { Fetcher } from "tuf-js";
import { DownloadHTTPError } from "tuf-js/dist/error.js";
import { P2pCacheError } from "../../protocol/errors.ts";
import type { ReadPolicyFile } from "./verify-policy.ts";

/** What tuf-js is told that the policy's address is. */
export const policyUrl = "p2pcache-policy:///";

/** Gets files for tuf-js by their names, and remembers what went wrong: tuf-js makes a text of it. */
export class PolicyFetcher implements Fetcher {
  readonly #read: ReadPolicyFile;
  /** Of a source that cannot be asked; undefined where all answers were had. */
  failure: Error | undefined;

  constructor(read: ReadPolicyFile) {
    this.#read = read;
  }

  async downloadBytes(url: string, bytesMax: number): Promise<Buffer> {
    const name = fileName(url);
    let bytes: Uint8Array | undefined;
    try {
      bytes = await this.#read(name);
    } catch (error) {
      this.failure = error as Error;
      throw error;
    }
    // So tuf-js knows that there is no newer root.
    if (bytes === undefined) throw new DownloadHTTPError(`there is no ${name}`, 404);
    if (bytes.length > bytesMax) throw new P2pCacheError("POLICY_BROKEN", 5, `${name} has more than ${bytesMax} bytes`);
    return Buffer.from(bytes);
  }

  /** Targets are read by us, so that no temporary file of tuf-js's is made. */
  downloadFile(): Promise<never> {
    return Promise.reject(new Error("broken promise: tuf-js gets metadata only"));
  }
}

/** tuf-js writes `3.members%2Flyon.json` where we have `3.members.lyon.json`. */
function fileName(url: string): string {
  return decodeURIComponent(url.slice(policyUrl.length)).replaceAll("/", ".");
}
