/**
 * Holds a job down to so many bytes a second, which may be changed while it runs.
 *
 * As `Pace` of a copy: each piece takes its share of time, and the next one begins when that is over.
 */
import { setTimeout as sleepFor } from 'node:timers/promises';

/** Time, so that a test can turn it. */
export interface JobClock {
  /** Milliseconds. */
  now(): number;
  /** Resolves after so long, or when `signal` ends it. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const realClock: JobClock = {
  now: () => performance.now(),
  sleep: async (ms, signal) => {
    await sleepFor(ms, undefined, { signal }).catch(() => undefined);
  },
};

/** The speed of one job. */
export class Throttle {
  readonly #clock: JobClock;
  #rate: number;
  #free: number;
  #waking = new AbortController();

  /** @param rate bytes a second; 0: not bounded */
  constructor(rate: number, clock: JobClock = realClock) {
    this.#rate = rate;
    this.#clock = clock;
    this.#free = clock.now();
  }

  get rate(): number {
    return this.#rate;
  }

  /** From now on, for what waits too. */
  set rate(rate: number) {
    this.#rate = rate;
    this.#free = this.#clock.now();
    this.wake();
  }

  /** Ends a wait before its time. */
  wake(): void {
    this.#waking.abort();
    this.#waking = new AbortController();
  }

  /**
   * Waits until the next piece may begin, and then takes the share of `bytes`. False: the wait was ended before its time,
   * and nothing is taken. Calls must not overlap.
   */
  async take(bytes: number): Promise<boolean> {
    if (this.#rate === 0) return true;
    const { signal } = this.#waking;
    const wait = this.#free - this.#clock.now();
    if (wait > 0) await this.#clock.sleep(wait, signal);
    if (signal.aborted) return false;
    if (this.#rate > 0) this.#free = Math.max(this.#free, this.#clock.now()) + (bytes / this.#rate) * 1000;
    return true;
  }
}
