/**
 * A disk of which only what changed is shown: all else is a hole that nobody holds, and what changed is never one.
 *
 * It counts what is read through it, so that a backup can say what it cost.
 */
import type { DirtyBitmap } from '@strata/bitmap';
import type { BlockSource, Extent } from '@strata/block';

/** What was read, in bytes. */
export interface ReadCounts {
  readonly read: number;
  /** Of those, what did not change: read because it lies in a unit with what did. */
  readonly beyond: number;
}

/** Disposing of it leaves the disk open. */
export class ChangedOnly implements BlockSource {
  readonly size: number;
  readonly #disk: BlockSource;
  readonly #changed: DirtyBitmap;
  #read = 0;
  #beyond = 0;

  /** @param changed of the disk's size */
  constructor(disk: BlockSource, changed: DirtyBitmap) {
    this.size = disk.size;
    this.#disk = disk;
    this.#changed = changed;
  }

  get counts(): ReadCounts {
    return { read: this.#read, beyond: this.#beyond };
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    await this.#disk.read(into, offset);
    this.#count(offset, into.length);
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    if (!this.#disk.tryRead(into, offset)) return false;
    this.#count(offset, into.length);
    return true;
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    const most = this.#changedAt(offset, limit);
    if (most < 0) return unchanged(offset, -most);
    const extent = this.#disk.tryExtentAt(offset, most);
    return extent && held(extent);
  }

  async extentAt(offset: number, limit: number): Promise<Extent> {
    const most = this.#changedAt(offset, limit);
    return most < 0 ? unchanged(offset, -most) : held(await this.#disk.extentAt(offset, most));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** How many bytes from `offset` on are alike: changed ones, or, as a negative number, ones that are not. */
  #changedAt(offset: number, limit: number): number {
    const run = this.#changed.nextDirty(offset);
    if (run === undefined) return -limit;
    if (run.offset > offset) return -Math.min(limit, run.offset - offset);
    return Math.min(limit, run.length);
  }

  #count(offset: number, length: number): void {
    this.#read += length;
    for (let at = offset; at < offset + length; ) {
      const most = this.#changedAt(at, offset + length - at);
      if (most < 0) this.#beyond -= most;
      at += Math.abs(most);
    }
  }
}

function unchanged(offset: number, length: number): Extent {
  return { offset, length, kind: 'hole', depth: 0 };
}

/** What nobody holds reads as zeros, and it may have held something when the parent was taken. */
function held({ offset, length, kind }: Extent): Extent {
  return { offset, length, kind: kind === 'hole' ? 'zero' : kind, depth: 1 };
}
