import { UnreachableError } from "../../protocol/errors.ts";
import { ChildFiles, type ChildFilesOptions } from "./child-files.ts";
import { FolderReader, type ReaderOptions } from "./folder-reader.ts";

/** Of a child that is given up, where the shell may say so. */
export type FolderSourceOptions = ReaderOptions & Pick<ChildFilesOptions, "onAbandoned" | "silentMs" | "answerMs">;

/** A folder origin as a node has it: all that touches the mount is done in a child process that can be abandoned. */
export class FolderSource extends FolderReader implements AsyncDisposable {
  readonly #child: ChildFiles;

  private constructor(options: FolderSourceOptions, child: ChildFiles) {
    super(options, child);
    this.#child = child;
  }

  /**
   * Opens an origin. One that cannot be reached now, or takes its time, is opened all the same, and checked when it is
   * first used. @throws {UsageError} {VersionError} {FormatError} when it is none of our network that we can read.
   */
  static async open(options: FolderSourceOptions): Promise<FolderSource> {
    const child = new ChildFiles(options);
    const source = new FolderSource(options, child);
    try {
      await source.check({ signal: AbortSignal.timeout(openMs) });
    } catch (error) {
      const isLate = error instanceof DOMException && error.name === "TimeoutError";
      if (isLate || error instanceof UnreachableError) return source;
      await child[Symbol.asyncDispose]();
      throw error;
    }
    return source;
  }

  /** The process that reads just now, for tests that trouble it. */
  pid(): Promise<number | undefined> {
    return this.#child.pid();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}

/** A node is ready 2 s after its start (P2), whatever its origins do. */
const openMs = 500;
