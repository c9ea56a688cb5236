/** Which ranges of a disk changed: granular bitmaps and the device that keeps them. */
export { DirtyBitmap, type DirtyRange, largestGranularity, smallestGranularity } from './bitmap.ts';
export { tracked } from './tracked.ts';
