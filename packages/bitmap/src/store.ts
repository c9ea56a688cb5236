/**
 * The contract of those who keep named bitmaps: an image, or a file beside one.
 *
 * A bitmap that records is told of every change before it happens. One that was not saved properly is
 * *inconsistent*: what it says is not known any more, and all that can be done with it is to remove it. One that is
 * *busy* is in use by a job or an export: it records, and takes no other change.
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
  /** It is kept with the image; false: in memory only, and gone when the image is closed. */
  readonly persistent: boolean;
  readonly busy: boolean;
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
  /** Kept with the image; true if not given. */
  readonly persistent?: boolean;
}

/**
 * A bitmap as it was at one moment, in the hands of a job. The bitmap itself is busy meanwhile and says all that it
 * said and all that changed since: whatever interrupts the job, nothing is taken for clean.
 */
export interface FrozenBitmap {
  /** What it said at that moment. It does not change; it must not be used once the freeze has ended. */
  readonly content: DirtyBitmap;
  /**
   * Ends the freeze: from now on the bitmap says what changed since that moment, and what `left` has. Nothing after a
   * job that succeeded; `content` after one that did not; what it did not get to, in between. Later calls do nothing.
   */
  end(left?: DirtyBitmap): Promise<void>;
}

/**
 * Bitmaps that can be changed. What a call did lasts once the store has been closed; `add`, `remove` and `rename` once
 * they have resolved. A failed call changes nothing. All reject with `not-found` for a name that is not there, with
 * `busy` for a bitmap that is, and with `invalid` for one that is inconsistent.
 */
export interface BitmapStore extends BitmapSource {
  /** For a new bitmap of which nothing else is said, as QEMU has it: of clusters, 4 to 64 KiB; 64 KiB without clusters. */
  readonly defaultGranularity: number;
  /** @throws {DiskError} exists, invalid, limit, not-supported, no-space */
  add(name: string, how: NewBitmap): Promise<void>;
  /** Inconsistent ones too. */
  remove(name: string): Promise<void>;
  /** Inconsistent ones too. @throws {DiskError} exists, invalid, no-space */
  rename(name: string, to: string): Promise<void>;
  clear(name: string): Promise<void>;
  setEnabled(name: string, enabled: boolean): Promise<void>;
  /** Makes dirty what is dirty in `other`, of whatever granularity. @throws {DiskError} invalid for another size */
  merge(name: string, other: DirtyBitmap): Promise<void>;
  /** Takes what a bitmap says at this moment, between two changes of the disk. */
  freeze(name: string): Promise<FrozenBitmap>;
  /** Makes a bitmap busy until the function is called that it resolves to; several may hold one. */
  hold(name: string): Promise<() => void>;
}

/** The longest name of a bitmap, in bytes; QEMU's. */
export const longestBitmapName = 1023;

/** @throws {DiskError} invalid for what cannot be the name of a bitmap */
export function judgeBitmapName(name: string): void {
  const length = Buffer.byteLength(name);
  if (length === 0) throw new DiskError('invalid', 'Bitmap name cannot be empty');
  if (length > longestBitmapName)
    throw new DiskError('invalid', `Bitmap name is too long, at most ${longestBitmapName} bytes`);
  if (name.includes('\0')) throw new DiskError('invalid', 'Bitmap name has a NUL in it');
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

/** The error for a name that is there already. */
export function bitmapExists(name: string): DiskError {
  return new DiskError('exists', `Bitmap already exists: ${name}`);
}

/** `context.op` of the next error, for those who advise people. */
export const inconsistentUse = 'inconsistent bitmap';

/** The error for a use of an inconsistent bitmap. */
export function inconsistentBitmap(name: string): DiskError {
  const message = `Bitmap '${name}' is inconsistent and cannot be used`;
  return new DiskError('invalid', message, { op: inconsistentUse });
}

/** The error for a change of a busy bitmap. */
export function busyBitmap(name: string): DiskError {
  const message = `Bitmap '${name}' is currently in use by another operation and cannot be used`;
  return new DiskError('busy', message);
}
