/**
 * Serialises calls whose ranges overlap; all others run at once.
 *
 * Fair: a range waits for every earlier one that overlaps it, whether that one runs or waits itself, so
 * nobody is passed for ever. With nothing in the way a lock costs one small object and no promise.
 */

/** A range that is held. */
export interface RangeHold {
  /** Lets the next ones go. Once. */
  release(): void;
}

class Hold implements RangeHold {
  readonly start: number;
  readonly end: number;
  /** How many earlier ranges are still in the way. */
  blockers = 0;
  /** Later ranges that wait for this one. */
  waiters: Hold[] | undefined;
  granted: (() => void) | undefined;
  readonly #all: Set<Hold>;

  constructor(all: Set<Hold>, start: number, end: number) {
    this.#all = all;
    this.start = start;
    this.end = end;
  }

  overlaps(start: number, end: number): boolean {
    return Math.max(start, this.start) < Math.min(end, this.end);
  }

  release(): void {
    if (!this.#all.delete(this)) throw new RangeError('a range was released twice');
    if (this.waiters === undefined) return;
    for (const waiter of this.waiters) {
      if (--waiter.blockers === 0) waiter.granted?.();
    }
  }
}

/** Locks on ranges of one disk. */
export class RangeLock {
  readonly #holds = new Set<Hold>();

  /** The hold, if nothing that is held or waited for overlaps the range; the fast path of `acquire`. */
  tryAcquire(offset: number, length: number): RangeHold | undefined {
    const end = offset + length;
    for (const other of this.#holds) {
      if (other.overlaps(offset, end)) return undefined;
    }
    const hold = new Hold(this.#holds, offset, end);
    this.#holds.add(hold);
    return hold;
  }

  /** Waits until every earlier range that overlaps has been released. A range of no bytes overlaps nothing. */
  async acquire(offset: number, length: number): Promise<RangeHold> {
    const hold = new Hold(this.#holds, offset, offset + length);
    for (const other of this.#holds) {
      if (!other.overlaps(offset, hold.end)) continue;
      other.waiters ??= [];
      other.waiters.push(hold);
      hold.blockers++;
    }
    this.#holds.add(hold);
    if (hold.blockers > 0) {
      await new Promise<void>((resolve) => {
        hold.granted = resolve;
      });
    }
    return hold;
  }

  /** Runs `work` while the range is held. */
  async run<T>(offset: number, length: number, work: () => Promise<T>): Promise<T> {
    const hold = this.tryAcquire(offset, length) ?? (await this.acquire(offset, length));
    try {
      return await work();
    } finally {
      hold.release();
    }
  }
}
