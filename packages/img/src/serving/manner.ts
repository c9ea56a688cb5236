/**
 * How clients' writes are treated on their way to a disk: `--cache`, `--discard` and `--detect-zeroes`.
 *
 * A disk that is served as it is goes through nothing.
 */
import { type BlockDevice, checkedDevice, isZero } from '@strata/block';
import type { ServeOptions } from './options.ts';

/** `device` as the options want it. */
export function inManner(
  device: BlockDevice,
  { cache, discard, detectZeroes }: Pick<ServeOptions, 'cache' | 'discard' | 'detectZeroes'>,
): BlockDevice {
  let calls: Partial<BlockDevice> = {};
  if (discard === 'ignore' || discard === 'off') calls = { ...calls, discard: ignored };
  if (detectZeroes === 'on' || detectZeroes === 'unmap') {
    const allocate = detectZeroes === 'on';
    const write: BlockDevice['write'] = (from, offset) =>
      isZero(from) ? device.zero(offset, from.length, { allocate }) : device.write(from, offset);
    calls = { ...calls, write };
  }
  const [mode] = cache;
  if (mode === 'writethrough' || mode === 'directsync') calls = flushedCalls(device, calls);
  return Object.keys(calls).length === 0 ? device : changedDevice(device, calls);
}

const ignored = (): Promise<void> => Promise.resolve();

/** Every change is on disk when it is answered. */
function flushedCalls(device: BlockDevice, calls: Partial<BlockDevice>): Partial<BlockDevice> {
  const { write = device.write.bind(device), discard = device.discard.bind(device) } = calls;
  const thenFlush = (change: Promise<void>): Promise<void> => change.then(() => device.flush());
  return {
    write: (from, offset) => thenFlush(write(from, offset)),
    zero: (offset, length, how) => thenFlush(device.zero(offset, length, how)),
    discard: (offset, length) => thenFlush(discard(offset, length)),
  };
}

function changedDevice(device: BlockDevice, calls: Partial<BlockDevice>): BlockDevice {
  return checkedDevice({
    size: device.size,
    caps: device.caps,
    read: (into, offset) => device.read(into, offset),
    tryRead: (into, offset) => device.tryRead(into, offset),
    extentAt: (offset, limit) => device.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => device.tryExtentAt(offset, limit),
    tryDirect: (offset, length) => device.tryDirect?.(offset, length),
    write: (from, offset) => device.write(from, offset),
    zero: (offset, length, how) => device.zero(offset, length, how),
    discard: (offset, length) => device.discard(offset, length),
    flush: () => device.flush(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
    ...calls,
  });
}
