/** One qcow2 image (versions 2 and 3) as a layer of a chain. */
export { type AmendChanges, type AmendTarget, amendQcow2 } from './amend.ts';
export type { BitmapEntry } from './bitmaps.ts';
export { changeBitmaps } from './change-bitmaps.ts';
export type { Finding } from './check/findings.ts';
export { type CheckOptions, type CheckReport, checkImage } from './check.ts';
export { type CreateQcow2Options, createQcow2, versionOfCompat } from './create.ts';
export type { NewEncryption } from './encrypt.ts';
export { changeImageKeys } from './encryption.ts';
export { isQcow2 } from './format.ts';
export type { ImageOptions } from './image.ts';
export { dataFileName, type Qcow2Info, readInfo } from './info.ts';
export { qcow2Format, qcow2FormatWith } from './layer.ts';
export {
  bitmapsSize,
  type Measure,
  type MeasureOptions,
  measureQcow2,
} from './measure.ts';
export { type RepairReport, type RepairScope, repairImage } from './repair.ts';
export { applySnapshot, createSnapshot, deleteSnapshot } from './snapshot-changes.ts';
export type { NewSnapshot } from './snapshot-table.ts';
export type { Snapshot } from './snapshots.ts';
