/**
 * Reading a disk as it was at a moment, while it changes: the target of copies made before writes, over the disk itself.
 *
 * What the target does not hold is read from the disk. A read that has found the disk responsible is not done when the old
 * bytes arrive in the target; so the guest's write waits for such reads before it changes what they read.
 */
import { type BlockDevice, DiskError } from '@strata/block';
import type { LiveFilter } from '../live-disk.ts';

/** A read under way. */
interface Reading {
  readonly offset: number;
  readonly end: number;
  readonly done: Promise<void>;
}

/** The filter in front of the target. */
export class FleecingReads implements LiveFilter {
  readonly #reading = new Set<Reading>();
  #failure: DiskError | undefined;

  over(images: BlockDevice): BlockDevice {
    return {
      size: images.size,
      caps: images.caps,
      read: (into, offset) => this.#read(offset, into.length, () => images.read(into, offset)),
      tryRead: (into, offset) => this.#failure === undefined && images.tryRead(into, offset),
      extentAt: async (offset, limit) => {
        if (this.#failure !== undefined) throw this.#failure;
        return images.extentAt(offset, limit);
      },
      tryExtentAt: (offset, limit) =>
        this.#failure === undefined ? images.tryExtentAt(offset, limit) : undefined,
      write: (from, offset) => images.write(from, offset),
      zero: (offset, length, how) => images.zero(offset, length, how),
      discard: (offset, length) => images.discard(offset, length),
      flush: () => images.flush(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }

  /** Resolves when all reads of the range that are under way now have ended. */
  async readsOf(offset: number, length: number): Promise<void> {
    const overlapping = [...this.#reading].filter(
      (each) => each.offset < offset + length && each.end > offset,
    );
    await Promise.all(overlapping.map(({ done }) => done));
  }

  /** From now on every read fails: what the disk was is not known any more. */
  fail(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `what the disk was could not be kept: ${reason}`;
    this.#failure = new DiskError('io', message, { cause });
  }

  async #read(offset: number, length: number, read: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    let finished = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      finished = resolve;
    });
    const reading = { offset, end: offset + length, done };
    this.#reading.add(reading);
    try {
      await read();
      if (this.#failure !== undefined) throw this.#failure;
    } finally {
      this.#reading.delete(reading);
      finished();
    }
  }
}
