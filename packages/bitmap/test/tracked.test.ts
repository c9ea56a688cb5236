import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BlockDevice, checkedDevice, DiskError, isDiskError, MemoryDevice } from '@strata/block';
import { blockSuite } from '@strata/testkit';
import fc from 'fast-check';
import { DirtyBitmap } from '../src/bitmap.ts';
import { tracked } from '../src/tracked.ts';

const KiB = 1024;

test('after any changes, what differs from before is dirty in every bitmap', async () => {
  const operation = fc.tuple(
    fc.constantFrom('write', 'zero', 'discard', 'read'),
    fc.nat(256 * KiB - 1),
    fc.integer({ min: 1, max: 20_000 }),
  );
  const property = fc.asyncProperty(fc.array(operation, { maxLength: 20 }), async (operations) => {
    const memory = new MemoryDevice(256 * KiB);
    await memory.write(Buffer.alloc(256 * KiB, 7), 0);
    const bitmaps = [512, 4096, 65536].map((granularity) => new DirtyBitmap(256 * KiB, granularity));
    const disk = tracked(memory, bitmaps);
    for (const [kind, offset, most] of operations) {
      const length = Math.min(most, 256 * KiB - offset);
      if (kind === 'write') await disk.write(Buffer.alloc(length, 1), offset);
      else if (kind === 'zero') await disk.zero(offset, length);
      else if (kind === 'discard') await disk.discard(offset, length);
      else await disk.read(Buffer.alloc(length), offset);
      if (kind === 'read') continue;
      for (const bitmap of bitmaps) {
        const found = bitmap.nextDirty(offset);
        assert.ok(found !== undefined && found.offset === offset && found.length >= length);
      }
    }
    const now = Buffer.alloc(256 * KiB);
    await disk.read(now, 0);
    for (const bitmap of bitmaps) {
      for (const [at, byte] of now.entries()) if (byte !== 7) assert.ok(bitmap.isDirty(at), `byte ${at}`);
    }
    if (operations.every(([kind]) => kind === 'read')) assert.ok(bitmaps.every(({ count }) => count === 0));
  });
  await fc.assert(property, { numRuns: 40 });
});

/** A disk on which every change fails, after the bitmap was looked at. */
function failing(inner: BlockDevice, look: () => void): BlockDevice {
  const fail = async (): Promise<void> => {
    look();
    throw new DiskError('io', 'the disk is broken');
  };
  return {
    size: inner.size,
    caps: inner.caps,
    read: (into, offset) => inner.read(into, offset),
    tryRead: () => false,
    extentAt: (offset, limit) => inner.extentAt(offset, limit),
    tryExtentAt: () => undefined,
    write: fail,
    zero: fail,
    discard: fail,
    flush: fail,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

test('a change is marked before the disk hears of it, and stays marked when it fails', async () => {
  const bitmap = new DirtyBitmap(64 * KiB, 4096);
  const seen: number[] = [];
  const disk = tracked(
    failing(new MemoryDevice(64 * KiB), () => seen.push(bitmap.count)),
    [bitmap],
  );
  const isIo = (error: unknown): boolean => isDiskError(error, 'io');
  await assert.rejects(disk.write(Buffer.alloc(1), 0), isIo);
  await assert.rejects(disk.zero(4096, 1), isIo);
  await assert.rejects(disk.discard(8192, 1), isIo);
  assert.deepEqual(seen, [4096, 8192, 12288]);
  assert.equal(bitmap.count, 12288);
  await assert.rejects(disk.flush(), isIo);
});

test('bitmaps come and go while the disk is used', async () => {
  const bitmaps = new Set<DirtyBitmap>();
  const disk = tracked(new MemoryDevice(64 * KiB), bitmaps);
  const late = new DirtyBitmap(64 * KiB, 4096);
  await disk.write(Buffer.alloc(1), 0);
  bitmaps.add(late);
  await disk.write(Buffer.alloc(1), 4096);
  bitmaps.delete(late);
  await disk.write(Buffer.alloc(1), 8192);
  assert.deepEqual([...late.ranges()], [{ offset: 4096, length: 4096 }]);
});

test('a change outside the disk marks nothing', async () => {
  const bitmap = new DirtyBitmap(64 * KiB, 4096);
  const disk = checkedDevice(tracked(new MemoryDevice(64 * KiB), [bitmap]));
  await assert.rejects(disk.write(Buffer.alloc(2), 64 * KiB - 1), RangeError);
  await assert.rejects(tracked(new MemoryDevice(64 * KiB), [bitmap]).zero(64 * KiB, 1), RangeError);
  assert.equal(bitmap.count, 0);
});

test('everything else passes through, and disposing leaves the disk open', async () => {
  const memory = new MemoryDevice(64 * KiB);
  const disk = tracked(memory, []);
  await disk.write(Buffer.from('abc'), 100);
  const into = Buffer.alloc(3);
  assert.equal(disk.tryRead(into, 100), true);
  assert.equal(into.toString(), 'abc');
  assert.deepEqual(disk.tryExtentAt(0, 4096), memory.tryExtentAt(0, 4096));
  assert.deepEqual(await disk.extentAt(0, 4096), await memory.extentAt(0, 4096));
  assert.equal(disk.caps, memory.caps);
  await disk.flush();
  await disk[Symbol.asyncDispose]();
  await memory.read(into, 100);
});

test('a bitmap of another size is refused', () => {
  assert.throws(() => tracked(new MemoryDevice(1000), [new DirtyBitmap(1001, 512)]), RangeError);
});

blockSuite({
  name: 'a tracked disk',
  open: async () => {
    const device = checkedDevice(tracked(new MemoryDevice(234_567), [new DirtyBitmap(234_567, 4096)]));
    return { device, [Symbol.asyncDispose]: () => device[Symbol.asyncDispose]() };
  },
  skip: [{ law: 'durable', reason: 'memory does not outlive its closing' }],
});
