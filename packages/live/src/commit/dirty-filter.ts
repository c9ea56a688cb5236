/** Marks what changes on a disk, when the change has been made: what is marked is to be copied again. */
import type { DirtyBitmap } from '@strata/bitmap';
import type { BlockDevice } from '@strata/block';
import type { LiveFilter } from '../live-disk.ts';

/** A filter in front of a disk that is copied while it is written. */
export class DirtyFilter implements LiveFilter {
  readonly #dirty: DirtyBitmap;
  readonly #onDirty: () => void;

  /** @param onDirty is called after each change */
  constructor(dirty: DirtyBitmap, onDirty: () => void) {
    this.#dirty = dirty;
    this.#onDirty = onDirty;
  }

  over(images: BlockDevice): BlockDevice {
    // A change that failed may have been made in part.
    const marked = async (offset: number, length: number, change: Promise<void>): Promise<void> => {
      try {
        await change;
      } finally {
        this.#dirty.set(offset, length);
        this.#onDirty();
      }
    };
    return {
      size: images.size,
      caps: images.caps,
      read: (into, offset) => images.read(into, offset),
      tryRead: (into, offset) => images.tryRead(into, offset),
      extentAt: (offset, limit) => images.extentAt(offset, limit),
      tryExtentAt: (offset, limit) => images.tryExtentAt(offset, limit),
      write: (from, offset) => marked(offset, from.length, images.write(from, offset)),
      zero: (offset, length, how) => marked(offset, length, images.zero(offset, length, how)),
      discard: (offset, length) => marked(offset, length, images.discard(offset, length)),
      flush: () => images.flush(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
}
