/**
 * Serialises calls whose ranges overlap; all others run at once.
 *
 * Fair: a range waits for every earlier one that overlaps it, whether that one runs or waits itself, so
 * nobody is passed for ever. With nothing in the way a lock costs one small object and no promise.
 */

/** A range that is held. */
export interface RangeHold {
  /** Gives back all but a part of the range, which lies inside it. */
  narrow(offset: number, length: number): void;
  /** Lets the next ones go. Once. */
  release(): void;
}

class Hold implements RangeHold {
  start: number;
  end: number;
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

  narrow(offset: number, length: number): void {
    if (offset < this.start || offset + length > this.end) throw new RangeError('a range does not grow');
    this.start = offset;
    this.end = offset + length;
    const { waiters } = this;
    if (waiters === undefined) return;
    this.waiters = waiters.filter((waiter) => waiter.overlaps(this.start, this.end));
    for (const waiter of waiters) {
      if (!waiter.overlaps(this.start, this.end) && --waiter.blockers === 0) waiter.granted?.();
    }
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
