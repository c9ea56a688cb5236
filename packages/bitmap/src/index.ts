/** Which ranges of a disk changed: granular bitmaps, the device that keeps them, and the contract of those who store them. */
export { DirtyBitmap, type DirtyRange, largestGranularity, smallestGranularity } from './bitmap.ts';
export {
  type BitmapFacts,
  type BitmapSource,
  type BitmapStore,
  bitmapStoreOf,
  bitmapsOf,
  inconsistentBitmap,
  inconsistentUse,
  type NewBitmap,
  noSuchBitmap,
} from './store.ts';
export { tracked } from './tracked.ts';
