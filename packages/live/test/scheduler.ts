/** Ends the calls of files in an order that a seed decides, one at a time: how requests meet is then repeatable. */
import type { HostFile } from '@strata/block';
import { type Random, randomFrom } from '@strata/testkit';

/** The calls that wait. */
export class Scheduler {
  readonly #random: Random;
  readonly #waiting: (() => void)[] = [];
  /** False: calls go straight through. */
  isActive = false;

  constructor(seed: number) {
    this.#random = randomFrom(seed);
  }

  /** `file`, whose calls wait for their turn, before and after; now and then a try answers at once. */
  file(file: HostFile): HostFile {
    const turn = async (): Promise<void> => {
      if (this.isActive) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    };
    const around = async <T>(call: () => Promise<T>): Promise<T> => {
      await turn();
      const result = await call();
      if (this.#random.upTo(3) === 0) await turn();
      return result;
    };
    const isNow = (): boolean => !this.isActive || this.#random.upTo(2) > 0;
    return {
      get size() {
        return file.size;
      },
      path: file.path,
      caps: file.caps,
      allocated: () => file.allocated(),
      tryRead: (into, offset) => isNow() && file.tryRead(into, offset),
      tryExtentAt: (offset, limit) => (isNow() ? file.tryExtentAt(offset, limit) : undefined),
      read: (into, offset) => around(() => file.read(into, offset)),
      extentAt: (offset, limit) => around(() => file.extentAt(offset, limit)),
      write: (from, offset) => around(() => file.write(from, offset)),
      zero: (offset, length, how) => around(() => file.zero(offset, length, how)),
      discard: (offset, length) => around(() => file.discard(offset, length)),
      flush: () => around(() => file.flush()),
      truncate: (size) => around(() => file.truncate(size)),
      [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
    };
  }

  /** Runs `work` to its end. */
  async drive<T>(work: Promise<T>): Promise<T> {
    this.isActive = true;
    let settled = false;
    const done = work.finally(() => {
      settled = true;
    });
    done.catch(() => undefined);
    while (!settled) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      const { length } = this.#waiting;
      if (length > 0) this.#waiting.splice(this.#random.upTo(length - 1), 1)[0]?.();
    }
    this.isActive = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
    return done;
  }
}
