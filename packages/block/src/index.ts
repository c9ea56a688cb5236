/** What a disk is: the contracts and the parts that every other package stands on. */
export { checkedDevice, checkedSource, checkRange } from './checked.ts';
export type {
  BlockDevice,
  BlockSource,
  Capabilities,
  Extent,
  ExtentKind,
  HostFile,
  HostSource,
  ZeroOptions,
} from './device.ts';
export type { ErrorCode, ErrorContext } from './errors.ts';
export { DiskError, isDiskError, withContext } from './errors.ts';
export type { BackingReference, ImageFormat, Layer, LayerSource, Mapping } from './layer.ts';
