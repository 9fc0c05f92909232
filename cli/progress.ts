import { formatBytes, formatDuration, formatRate, type Progress } from "../node/index.ts";
import type { Output } from "./print.ts";

/** How far the work is: bytes by source where they have one. */
export interface ProgressState {
  readonly what: string;
  readonly doneBytes: number;
  /** Undefined where nobody knows. */
  readonly totalBytes: number | undefined;
  /** Such as `peers 3 MB, origin 1 MB`. */
  readonly detail: string;
}

/** Shows progress on stderr: a bar on a terminal, elsewhere a line now and then. Nothing for what is over at once. */
export class ProgressReport implements Disposable {
  readonly #out: Output;
  readonly #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  #bar: { update(state: ProgressState, text: string): void; stop(): void } | undefined;
  #over = false;
  #shownMs: number = performance.now();

  constructor(out: Output) {
    this.#out = out;
    if (out.showsProgress && process.stderr.isTTY === true) void this.#openBar();
  }

  update(state: ProgressState): void {
    if (!this.#out.showsProgress || this.#over) return;
    const nowMs = performance.now();
    this.#samples.push({ atMs: nowMs, bytes: state.doneBytes });
    while (nowMs - this.#samples[0]!.atMs > rateWindowMs) this.#samples.shift();
    if (this.#bar !== undefined) this.#bar.update(state, this.#text(state));
    else if (process.stderr.isTTY !== true && nowMs - this.#shownMs >= lineMs) {
      this.#shownMs = nowMs;
      this.#out.note(`${state.what}: ${this.#text(state)}`);
    }
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#bar?.stop();
  }

  #text({ doneBytes, totalBytes, detail }: ProgressState): string {
    const rate = this.#bytesPerSecond();
    const done =
      totalBytes === undefined ? formatBytes(doneBytes) : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    const parts = [detail === "" ? done : `${done} (${detail})`];
    if (rate > 0) parts.push(formatRate(rate));
    if (rate > 0 && totalBytes !== undefined) {
      parts.push(`${formatDuration(((totalBytes - doneBytes) / rate) * 1000)} left`);
    }
    return parts.join(", ");
  }

  #bytesPerSecond(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.atMs === first.atMs) return 0;
    return ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1000;
  }

  /** Loaded late: most commands end before there is anything to show. */
  async #openBar(): Promise<void> {
    const { default: progress } = await import("cli-progress");
    if (this.#over) return;
    const format = (options: object, { progress: share }: { progress: number }, payload: BarPayload) => {
      const drawn = payload.isTotalKnown ? ` [${progress.Format.BarFormat(share, options)}]` : "";
      return `${payload.what}${drawn} ${payload.text}`;
    };
    const bar = new progress.SingleBar(
      { format, barsize: 20, hideCursor: true, clearOnComplete: true, linewrap: true },
      progress.Presets.legacy,
    );
    let started = false;
    const update = (state: ProgressState, text: string) => {
      const { what, doneBytes, totalBytes } = state;
      const payload: BarPayload = { what, text, isTotalKnown: totalBytes !== undefined };
      if (!started) bar.start(Math.max(1, totalBytes ?? 0), 0, payload);
      started = true;
      bar.setTotal(Math.max(1, totalBytes ?? 0));
      bar.update(doneBytes, payload);
    };
    this.#bar = { update, stop: () => bar.stop() };
  }
}

/** What stands beside the bar. */
interface BarPayload {
  readonly what: string;
  readonly text: string;
  readonly isTotalKnown: boolean;
}

/** Adds up what is told of each variant of one fetch. */
export class FetchProgressSum {
  readonly #latest = new Map<string, Progress>();

  add(progress: Progress): ProgressState {
    this.#latest.set(progress.text, progress);
    const sum = { local: 0, peers: 0, origin: 0 };
    let totalBytes = 0;
    for (const { bytes, totalBytes: total } of this.#latest.values()) {
      totalBytes += total;
      for (const source of sources) sum[source] += bytes[source];
    }
    const doneBytes = Math.min(totalBytes, sum.local + sum.peers + sum.origin);
    const what = this.#latest.size === 1 ? progress.text : `${this.#latest.size} variants`;
    return { what, doneBytes, totalBytes, detail: bytesText(sum) };
  }
}

/** `local 1 MB, peers 300 MB, origin 20 MB`. */
export function bytesText(bytes: Progress["bytes"]): string {
  return sources.map((source) => `${source} ${formatBytes(bytes[source])}`).join(", ");
}

const sources = ["local", "peers", "origin"] as const;
const rateWindowMs = 5_000;
const lineMs = 2_000;
