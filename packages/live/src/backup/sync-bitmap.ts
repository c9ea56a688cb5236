/** The bitmap of an incremental backup: what it says at the start is copied, and what changes meanwhile is for the next one. */
import { type BitmapStore, type DirtyBitmap, type FrozenBitmap, inconsistentBitmap } from '@strata/bitmap';
import { DiskError } from '@strata/block';

/** What becomes of the bitmap when the backup ends. */
export type BitmapMode =
  /** It is cleared of what was copied, if all was. */
  | 'on-success'
  /** It is left as it is, and goes on recording. */
  | 'never'
  /** It is cleared of what was copied, also if not all was. */
  | 'always';

/** Where a bitmap is. */
export interface BitmapPlace {
  readonly store: BitmapStore;
  readonly name: string;
}

/** A bitmap while a backup uses it. */
export class SyncBitmap {
  readonly #frozen: FrozenBitmap;
  readonly #mode: BitmapMode;

  /** Made by `takeBitmap`. */
  constructor(frozen: FrozenBitmap, mode: BitmapMode) {
    this.#frozen = frozen;
    this.#mode = mode;
  }

  /** What was dirty at the start; until `finish`. */
  get content(): DirtyBitmap {
    return this.#frozen.content;
  }

  /** The backup has ended: well, or with `left` not copied. @throws {DiskError} what the store throws */
  async finish(succeeded: boolean, left: DirtyBitmap): Promise<void> {
    const { content } = this.#frozen;
    if (this.#mode === 'never') return this.#frozen.end(content);
    if (succeeded) return this.#frozen.end();
    return this.#frozen.end(this.#mode === 'always' ? left : content);
  }
}

/** Takes a bitmap as it is now; the disk is paused. @throws {DiskError} not-found, invalid, busy, and what loading throws */
export async function takeBitmap({ store, name }: BitmapPlace, mode: BitmapMode): Promise<SyncBitmap> {
  const facts = (await store.list()).find((each) => each.name === name);
  if (facts === undefined) throw new DiskError('not-found', `Bitmap '${name}' could not be found`);
  if (facts.inconsistent) throw inconsistentBitmap(name);
  return new SyncBitmap(await store.freeze(name), mode);
}
