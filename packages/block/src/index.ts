/** What a disk is: the contracts and the parts that every other package stands on. */
export { fitsU64, getU16, getU32, getU64, putU16, putU32, putU64 } from './big-endian.ts';
export { checkedDevice, checkedSource, checkRange } from './checked.ts';
export { type CompareOptions, compare } from './compare.ts';
export { type CopyOptions, type CopyResult, copy } from './copy.ts';
export { type CopyDifferencesOptions, copyDifferences } from './copy-differences.ts';
export type {
  BlockDevice,
  BlockSource,
  Capabilities,
  DirectSend,
  Extent,
  ExtentKind,
  HostFile,
  HostRange,
  HostSource,
  ZeroOptions,
} from './device.ts';
export type { FileSource } from './devices/file.ts';
export { MemoryDevice } from './devices/memory.ts';
export { nullDevice } from './devices/null.ts';
export {
  type CreateFileOptions,
  createFile,
  type OpenFileOptions,
  openFile,
  type WritableFile,
} from './devices/open-file.ts';
export { errnoName, errnoSentence, hostError } from './errno.ts';
export type { ErrorCode, ErrorContext } from './errors.ts';
export { DiskError, inStep, isDiskError, type TransferStep, withContext } from './errors.ts';
export { eventLoopTurn, readsAsZeros, walkExtents } from './extents.ts';
export { type Fault, faulty, type PendingCall } from './filters/fault.ts';
export { hostFile, hostSource } from './filters/host.ts';
export { joinedSources } from './filters/joined.ts';
export { readOnly } from './filters/readonly.ts';
export { type Loss, salvaged } from './filters/salvage.ts';
export { type FileCall, type TraceEvent, traced } from './filters/trace.ts';
export { deviceWindow, sourceWindow } from './filters/window.ts';
export type {
  BackingReference,
  Compression,
  CompressOptions,
  ImageFormat,
  Layer,
  LayerSource,
  Mapping,
  OpenImageOptions,
  OpenSourceOptions,
  ResizeOptions,
  SnapshotChoice,
} from './layer.ts';
export { raw } from './layers/raw.ts';
export { type RawWindow, rawWindow } from './layers/raw-window.ts';
export { Lifetime } from './lifetime.ts';
export type { TransferOptions } from './pipeline.ts';
export { endProcess } from './posix/exit.ts';
export { LOCKS, type LockMode, type Permission } from './posix/locks.ts';
export { type Preallocation, spendSpace } from './preallocate.ts';
export { type RangeHold, RangeLock } from './range-lock.ts';
export {
  alignDown,
  alignUp,
  formatSize,
  formatSizeAndBytes,
  parseSize,
  type SizeProblem,
  sizeSentence,
} from './size.ts';
export { isZero, isZeroRange, type ZeroRun, zeroRunAt } from './zeros.ts';
