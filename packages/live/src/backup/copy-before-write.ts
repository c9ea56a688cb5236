/**
 * Keeps what a disk held at a moment: before a guest changes a range for the first time, its old bytes go elsewhere.
 *
 * Each cluster is copied once, by whoever comes first: a guest's write that is about to change it, or the job that goes
 * through the disk. Who comes second waits for the first. A write in flight has therefore none but copied clusters
 * under it, and a cluster that is still to be copied has no write in flight.
 *
 * Guests never see a failure of a copy: the copying ends for good, and their writes go on.
 */
import type { DirtyBitmap } from '@strata/bitmap';
import type { BlockDevice } from '@strata/block';
import type { LiveFilter } from '../live-disk.ts';

/** What is done with the old bytes of a range of whole clusters. */
export type CopyOut = (offset: number, length: number) => Promise<void>;

/** A copy under way. */
interface Copying {
  readonly offset: number;
  readonly end: number;
  readonly done: Promise<void>;
}

/** A filter in front of a disk that copies what is about to change. */
export class CopyBeforeWrite implements LiveFilter {
  /** What is still to be copied; its granularity is the cluster. Bits are taken out when their copy begins. */
  readonly remaining: DirtyBitmap;
  readonly #copyOut: CopyOut;
  readonly #copying = new Set<Copying>();
  #failure: { readonly error: unknown } | undefined;
  readonly #onFailure: (error: unknown) => void;

  /** @param onFailure is called once, with the first error of `copyOut`, before the write that met it goes on */
  constructor(remaining: DirtyBitmap, copyOut: CopyOut, onFailure: (error: unknown) => void) {
    this.remaining = remaining;
    this.#copyOut = copyOut;
    this.#onFailure = onFailure;
  }

  over(images: BlockDevice): BlockDevice {
    const after = (offset: number, length: number, change: () => Promise<void>): Promise<void> => {
      const before = this.before(offset, length);
      return before === undefined ? change() : before.then(change);
    };
    return {
      size: images.size,
      caps: images.caps,
      read: (into, offset) => images.read(into, offset),
      tryRead: (into, offset) => images.tryRead(into, offset),
      extentAt: (offset, limit) => images.extentAt(offset, limit),
      tryExtentAt: (offset, limit) => images.tryExtentAt(offset, limit),
      write: (from, offset) => after(offset, from.length, () => images.write(from, offset)),
      zero: (offset, length, how) => after(offset, length, () => images.zero(offset, length, how)),
      discard: (offset, length) => after(offset, length, () => images.discard(offset, length)),
      flush: () => images.flush(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }

  /** Resolves when the range may be changed; undefined: at once. It never rejects. */
  before(offset: number, length: number): Promise<void> | undefined {
    if (this.#failure !== undefined) return undefined;
    const { granularity, size } = this.remaining;
    const from = offset - (offset % granularity);
    const end = Math.min(Math.ceil((offset + length) / granularity) * granularity, size);
    const dirty = this.remaining.nextDirty(from);
    if ((dirty === undefined || dirty.offset >= end) && !this.#isCopying(from, end)) return undefined;
    return this.#settle(from, end);
  }

  /**
   * Copies a range of whole clusters that were all still to be copied.
   * @throws what `copyOut` throws; the clusters are still to be copied then
   */
  async copy(offset: number, length: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    this.remaining.clear(offset, length);
    let finished = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      finished = resolve;
    });
    const copying = { offset, end: offset + length, done };
    this.#copying.add(copying);
    try {
      await this.#copyOut(offset, length);
    } catch (error) {
      this.remaining.set(offset, length);
      if (this.#failure === undefined) {
        this.#failure = { error };
        this.#onFailure(error);
      }
      throw error;
    } finally {
      this.#copying.delete(copying);
      finished();
    }
  }

  /** Resolves when no copy is under way. */
  async untilIdle(): Promise<void> {
    while (this.#copying.size > 0) await Promise.all([...this.#copying].map(({ done }) => done));
  }

  async #settle(from: number, end: number): Promise<void> {
    while (this.#failure === undefined) {
      const mine: Promise<void>[] = [];
      for (let at = from; at < end; ) {
        const dirty = this.remaining.nextDirty(at);
        if (dirty === undefined || dirty.offset >= end) break;
        const length = Math.min(dirty.offset + dirty.length, end) - dirty.offset;
        mine.push(this.copy(dirty.offset, length).catch(() => undefined));
        at = dirty.offset + length;
      }
      const others = [...this.#copying].filter((each) => each.offset < end && each.end > from);
      if (mine.length === 0 && others.length === 0) return;
      await Promise.all([...mine, ...others.map(({ done }) => done)]);
    }
    // What is under way still reads the old bytes, or writes them where somebody reads them.
    await Promise.all([...this.#copying].map(({ done }) => done));
  }

  #isCopying(from: number, end: number): boolean {
    for (const each of this.#copying) if (each.offset < end && each.end > from) return true;
    return false;
  }
}
