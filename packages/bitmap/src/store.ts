/**
 * The contract of those who keep named bitmaps: an image, or a file beside one.
 *
 * A bitmap that records is told of every change before it happens. One that was not saved properly is
 * *inconsistent*: what it says is not known any more, and all that can be done with it is to remove it.
 */
import { DiskError } from '@strata/block';
import type { DirtyBitmap } from './bitmap.ts';

/** What is known of a bitmap without its content. */
export interface BitmapFacts {
  readonly name: string;
  /** In bytes. */
  readonly granularity: number;
  /** It records changes. */
  readonly enabled: boolean;
  readonly inconsistent: boolean;
}

/** Bitmaps that can be read. */
export interface BitmapSource {
  /** In the order in which they were added. @throws {DiskError} corrupt, limit, io */
  list(): Promise<readonly BitmapFacts[]>;
  /**
   * The content. If the store can be written this is the bitmap itself, which goes on recording; who needs it as it
   * is now makes a copy.
   *
   * @throws {DiskError} not-found, invalid (inconsistent), corrupt, limit, io
   */
  load(name: string): Promise<DirtyBitmap>;
}

/** How a new bitmap is to be. */
export interface NewBitmap {
  readonly granularity: number;
  /** Records from the start; true if not given. */
  readonly enabled?: boolean;
}

/**
 * Bitmaps that can be changed. What a call did lasts once the store has been closed; `add` and `remove` once they have
 * resolved. A failed call changes nothing. All reject with `not-found` for a name that is not there, and with
 * `invalid` for a bitmap that is inconsistent.
 */
export interface BitmapStore extends BitmapSource {
  /** @throws {DiskError} exists, invalid, not-supported, no-space */
  add(name: string, how: NewBitmap): Promise<void>;
  /** Inconsistent ones too. */
  remove(name: string): Promise<void>;
  clear(name: string): Promise<void>;
  setEnabled(name: string, enabled: boolean): Promise<void>;
  /** Makes dirty what is dirty in `other`, of whatever granularity. @throws {DiskError} invalid for another size */
  merge(name: string, other: DirtyBitmap): Promise<void>;
}

/** The bitmaps that an image keeps; undefined if its format keeps none. */
export function bitmapsOf(image: object): BitmapSource | undefined {
  return 'bitmaps' in image ? (image.bitmaps as BitmapSource) : undefined;
}

/** The same of an image that is open for writing. */
export function bitmapStoreOf(image: object): BitmapStore | undefined {
  const bitmaps = bitmapsOf(image);
  return bitmaps !== undefined && 'add' in bitmaps ? (bitmaps as BitmapStore) : undefined;
}

/** The error for a name that is not there. */
export function noSuchBitmap(name: string): DiskError {
  return new DiskError('not-found', `Dirty bitmap '${name}' not found`);
}

/** `context.op` of that error, for those who advise people. */
export const inconsistentUse = 'inconsistent bitmap';

/** The error for a use of an inconsistent bitmap. */
export function inconsistentBitmap(name: string): DiskError {
  const message = `Bitmap '${name}' is inconsistent and cannot be used`;
  return new DiskError('invalid', message, { op: inconsistentUse });
}
