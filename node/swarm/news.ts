/** Calls back after some time. Answers how to prevent it. */
export type Wait = (ms: number, then: () => void) => () => void;

/**
 * When peers are told what is new: the first at once, what comes soon after waits for more (decision 0050). Of each topic
 * by itself.
 */
export class News<Topic> {
  readonly #tell: (topic: Topic) => void;
  readonly #wait: Wait;
  /** Topics that were told of a moment ago. */
  readonly #recent = new Map<Topic, { isFresh: boolean; readonly stop: () => void }>();

  constructor(tell: (topic: Topic) => void, wait: Wait = byTimer) {
    this.#tell = tell;
    this.#wait = wait;
  }

  /** There is something new. */
  add(topic: Topic): void {
    const recent = this.#recent.get(topic);
    if (recent === undefined) this.#tellNow(topic);
    else recent.isFresh = true;
  }

  stop(): void {
    for (const { stop } of this.#recent.values()) stop();
    this.#recent.clear();
  }

  #tellNow(topic: Topic): void {
    const stop = this.#wait(gatherMs, () => {
      const isFresh = this.#recent.get(topic)?.isFresh;
      this.#recent.delete(topic);
      if (isFresh === true) this.#tellNow(topic);
    });
    this.#recent.set(topic, { isFresh: false, stop });
    this.#tell(topic);
  }
}

/** Measured in simulations: with 50 ms a crowd of 5,000 is slower (decision 0050). */
const gatherMs = 30;

function byTimer(ms: number, then: () => void): () => void {
  const timer = setTimeout(then, ms).unref();
  return () => clearTimeout(timer);
}
