/** Which ranges of a disk changed: granular bitmaps, the device that keeps them, and the contract of those who store them. */

export { beforeOtherChanges, bitmapsBeside, withBitmapsBeside } from './beside.ts';
export type { MemoryRoom } from './bit-tree.ts';
export {
  DirtyBitmap,
  type DirtyRange,
  largestGranularity,
  mostMemory,
  smallestGranularity,
} from './bitmap.ts';
export type { BitmapChange } from './change.ts';
export { type BitmapKeeper, keptBitmap, type NamedBitmap, NamedBitmaps } from './named-bitmaps.ts';
export {
  type BitmapFacts,
  type BitmapSource,
  type BitmapStore,
  bitmapExists,
  bitmapStoreOf,
  bitmapsOf,
  type FrozenBitmap,
  inconsistentBitmap,
  inconsistentUse,
  judgeBitmapName,
  type NewBitmap,
  noSuchBitmap,
} from './store.ts';
export { tracked } from './tracked.ts';
