/** Writing to the top of a chain with compression. */
import { type BlockDevice, type CompressOptions, checkedDevice, DiskError, type Layer } from '@strata/block';
import { ChainSource } from './chain.ts';
import { layersOf, type WritableChain } from './open.ts';

/**
 * The disk of a chain, where what is written is stored compressed: whole blocks of `caps.blockSize`, but for the
 * end of the disk. The chain stays the caller's.
 *
 * @throws {DiskError} not-supported where the top's format has no compression; invalid for a level it has not
 */
export function compressingDevice(chain: WritableChain, how: CompressOptions = {}): BlockDevice {
  const { device, images } = chain;
  const [top, ...rest] = images;
  const layer = top?.layer as Layer;
  const { compression } = layer;
  if (compression === undefined)
    throw new DiskError('not-supported', 'Compression not supported for this file format');
  const { least, most } = compression.levels;
  const { level = least } = how;
  if (!(level >= least && level <= most))
    throw new DiskError('invalid', `The levels of this compression are ${least} to ${most}`);
  const below = new ChainSource(layersOf(rest), layer.size);
  return checkedDevice({
    size: device.size,
    caps: Object.freeze({ ...layer.caps, blockSize: compression.unit }),
    read: (into, offset) => device.read(into, offset),
    tryRead: (into, offset) => device.tryRead(into, offset),
    extentAt: (offset, limit) => device.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => device.tryExtentAt(offset, limit),
    write: (from, offset) => layer.writeCompressed?.(from, offset, below, how) as Promise<void>,
    zero: (offset, length, zeroHow) => device.zero(offset, length, zeroHow),
    discard: (offset, length) => device.discard(offset, length),
    flush: () => device.flush(),
    [Symbol.asyncDispose]: async () => {},
  });
}
