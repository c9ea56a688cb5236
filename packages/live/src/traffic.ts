/**
 * The calls that are under way on a disk, and pausing them: calls that come wait, and those in flight are waited for.
 *
 * While nothing is paused a call costs two additions. Pauses add up, so that what pauses a disk need not know who
 * else does.
 */

/** Ends a pause. More than once is once. */
export type Resume = () => void;

/** The calls on one disk. */
export class Traffic {
  #running = 0;
  #pauses = 0;
  #opened: Promise<void> | undefined;
  #open: () => void = () => undefined;
  readonly #idle: (() => void)[] = [];

  /** There while calls have to wait; they look again when it resolves. */
  get held(): Promise<void> | undefined {
    return this.#opened;
  }

  /** Nothing is under way, and nothing can begin. */
  get isPaused(): boolean {
    return this.#opened !== undefined && this.#running === 0;
  }

  /** A call begins. */
  enter(): void {
    this.#running++;
  }

  /** The call has settled. */
  leave(): void {
    if (--this.#running > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Makes calls wait from now on. */
  hold(): Resume {
    if (this.#pauses++ === 0) {
      this.#opened = new Promise((resolve) => {
        this.#open = resolve;
      });
    }
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      if (--this.#pauses > 0) return;
      this.#opened = undefined;
      this.#open();
    };
  }

  /** Resolves when no call is under way. */
  async untilIdle(): Promise<void> {
    while (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}
