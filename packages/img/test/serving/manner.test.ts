import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BlockDevice, checkedDevice, MemoryDevice } from '@strata/block';
import { inManner } from '../../src/serving/manner.ts';

/** A disk, and the changes that reach it. */
function recorded(): { readonly device: BlockDevice; readonly calls: string[] } {
  const disk = new MemoryDevice(65_536);
  const calls: string[] = [];
  const device = checkedDevice({
    size: disk.size,
    caps: disk.caps,
    read: (into, offset) => disk.read(into, offset),
    tryRead: (into, offset) => disk.tryRead(into, offset),
    extentAt: (offset, limit) => disk.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => disk.tryExtentAt(offset, limit),
    write: (from, offset) => {
      calls.push(`write ${offset}+${from.length}`);
      return disk.write(from, offset);
    },
    zero: (offset, length, how) => {
      calls.push(`zero ${offset}+${length}${how?.allocate ? ' allocate' : ''}`);
      return disk.zero(offset, length, how);
    },
    discard: (offset, length) => {
      calls.push(`discard ${offset}+${length}`);
      return disk.discard(offset, length);
    },
    flush: async () => void calls.push('flush'),
    [Symbol.asyncDispose]: async () => undefined,
  });
  return { device, calls };
}

const none = { cache: [], discard: undefined, detectZeroes: undefined } as const;

/** One of each change. */
async function use(device: BlockDevice): Promise<void> {
  await device.write(Buffer.alloc(4096, 1), 0);
  await device.write(Buffer.alloc(4096), 4096);
  await device.zero(8192, 4096);
  await device.discard(12_288, 4096);
  await device.flush();
}

for (const [claim, options, expected] of [
  [
    'without options a disk is served as it is',
    {},
    ['write 0+4096', 'write 4096+4096', 'zero 8192+4096', 'discard 12288+4096', 'flush'],
  ],
  [
    '--discard=ignore drops discards',
    { discard: 'ignore' },
    ['write 0+4096', 'write 4096+4096', 'zero 8192+4096', 'flush'],
  ],
  [
    '--discard=unmap passes them on',
    { discard: 'unmap' },
    ['write 0+4096', 'write 4096+4096', 'zero 8192+4096', 'discard 12288+4096', 'flush'],
  ],
  [
    '--detect-zeroes=on keeps zeros allocated',
    { detectZeroes: 'on' },
    ['write 0+4096', 'zero 4096+4096 allocate', 'zero 8192+4096', 'discard 12288+4096', 'flush'],
  ],
  [
    '--detect-zeroes=unmap gives their space back',
    { detectZeroes: 'unmap' },
    ['write 0+4096', 'zero 4096+4096', 'zero 8192+4096', 'discard 12288+4096', 'flush'],
  ],
  [
    '--cache=writethrough flushes each change',
    { cache: ['writethrough'], discard: 'ignore', detectZeroes: 'unmap' },
    ['write 0+4096', 'flush', 'zero 4096+4096', 'flush', 'zero 8192+4096', 'flush', 'flush', 'flush'],
  ],
  [
    '--cache=writeback does not',
    { cache: ['writeback'] },
    ['write 0+4096', 'write 4096+4096', 'zero 8192+4096', 'discard 12288+4096', 'flush'],
  ],
] as const) {
  test(claim, async () => {
    const { device, calls } = recorded();
    const served = inManner(device, { ...none, ...options });
    await use(served);
    assert.deepEqual(calls, expected);
    const found = Buffer.alloc(8192);
    await served.read(found, 0);
    assert.ok(found.equals(Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4096)])));
  });
}
