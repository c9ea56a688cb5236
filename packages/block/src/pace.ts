/**
 * Holds a transfer down to so many bytes a second.
 *
 * Every piece takes its share of time, and a piece begins when the shares of those before it are over: so the rate holds
 * from the first second on, and a transfer that was slower for a while does not make up for it by a burst.
 */
import { setTimeout as sleepFor } from 'node:timers/promises';

/** Time, so that a test can turn it. */
export interface Clock {
  /** Milliseconds. */
  now(): number;
  sleep(ms: number, signal: AbortSignal | undefined): Promise<void>;
}

const realClock: Clock = {
  now: () => performance.now(),
  sleep: async (ms, signal) => {
    // An abort ends the sleep; whoever slept finds out what for.
    await sleepFor(ms, undefined, signal && { signal }).catch(() => undefined);
  },
};

/** Waits until `bytes` more may be moved. Undefined: at once. Calls must not overlap. */
export type Pace = (bytes: number) => Promise<void> | undefined;

/** A pace of `rate` bytes a second. @param signal ends a wait early */
export function paceOf(rate: number, signal: AbortSignal | undefined, clock: Clock = realClock): Pace {
  let free = clock.now();
  return (bytes) => {
    const now = clock.now();
    const wait = free - now;
    free = Math.max(free, now) + (bytes / rate) * 1000;
    return wait > 0 ? clock.sleep(wait, signal) : undefined;
  };
}
