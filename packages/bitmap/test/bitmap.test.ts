import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import fc from 'fast-check';
import { DirtyBitmap } from '../src/bitmap.ts';

const TiB = 2 ** 40;

/** A size, a granularity, and changes of which most cross granules or end with the disk. */
const granularity = fc.constantFrom(512, 4096, 65536);
const size = fc.integer({ min: 1, max: 2_000_000 });
const range = fc.tuple(
  fc.double({ min: 0, max: 1, noNaN: true }),
  fc.double({ min: 0, max: 1, noNaN: true }),
);
const change = fc.tuple(fc.constantFrom('set', 'clear'), range);

interface Given {
  readonly size: number;
  readonly granularity: number;
  readonly changes: readonly (readonly [string, readonly [number, number]])[];
}
const given = fc.record<Given>({ size, granularity, changes: fc.array(change, { maxLength: 40 }) });

/** The bitmap, and the granules that must be dirty, as a set. */
function build({ size: total, granularity: unit, changes }: Given): {
  bitmap: DirtyBitmap;
  oracle: Set<number>;
} {
  const bitmap = new DirtyBitmap(total, unit);
  const oracle = new Set<number>();
  for (const [kind, [a, b]] of changes) {
    const offset = Math.floor(Math.min(a, b) * total);
    const end = Math.ceil(Math.max(a, b) * total);
    if (kind === 'set') {
      bitmap.set(offset, end - offset);
      for (let granule = Math.floor(offset / unit); granule * unit < end && end > offset; granule++)
        oracle.add(granule);
    } else {
      bitmap.clear(offset, end - offset);
      for (const granule of oracle) {
        const granuleEnd = Math.min((granule + 1) * unit, total);
        if (granule * unit >= offset && granuleEnd <= end) oracle.delete(granule);
      }
    }
  }
  return { bitmap, oracle };
}

test('a bitmap has what a set of granules has, however it is asked', () => {
  const property = fc.property(given, (parameters) => {
    const { bitmap, oracle } = build(parameters);
    const { size: total, granularity: unit } = parameters;
    const lengthOf = (granule: number): number => Math.min((granule + 1) * unit, total) - granule * unit;
    for (let granule = 0; granule * unit < total; granule++) {
      assert.equal(bitmap.isDirty(granule * unit), oracle.has(granule), `granule ${granule}`);
      assert.equal(bitmap.isDirty(granule * unit + lengthOf(granule) - 1), oracle.has(granule));
    }
    assert.equal(
      bitmap.count,
      [...oracle].reduce((sum, granule) => sum + lengthOf(granule), 0),
    );
    const told = new Set<number>();
    let passed = -1;
    for (const { offset, length } of bitmap.ranges()) {
      assert.ok(offset > passed, 'ranges ascend and are apart');
      assert.ok(offset + length <= total && length > 0);
      for (let at = offset; at < offset + length; at += unit) told.add(at / unit);
      passed = offset + length;
    }
    assert.deepEqual(
      [...told].sort((a, b) => a - b),
      [...oracle].sort((a, b) => a - b),
    );
  });
  fc.assert(property, { numRuns: 300 });
});

test('nextDirty begins where it was asked, inside a dirty run too', () => {
  const bitmap = new DirtyBitmap(10_000, 4096);
  bitmap.set(5000, 1);
  assert.deepEqual(bitmap.nextDirty(0), { offset: 4096, length: 4096 });
  assert.deepEqual(bitmap.nextDirty(6000), { offset: 6000, length: 2192 });
  assert.equal(bitmap.nextDirty(8192), undefined);
  assert.equal(bitmap.nextDirty(10_000), undefined);
  bitmap.set(9999, 1);
  assert.deepEqual(bitmap.nextDirty(8000), { offset: 8000, length: 2000 });
});

test('a write of part of a granule makes it dirty, and clearing part of it does not make it clean', () => {
  const bitmap = new DirtyBitmap(1 << 20, 65536);
  bitmap.set(65536, 1);
  bitmap.clear(65536, 65535);
  assert.equal(bitmap.count, 65536);
  bitmap.clear(0, 131072);
  assert.equal(bitmap.count, 0);
});

test('setAll and clearAll reach the last byte of a disk that is not whole granules', () => {
  const bitmap = new DirtyBitmap(1_000_001, 65536);
  bitmap.setAll();
  assert.equal(bitmap.count, 1_000_001);
  assert.deepEqual([...bitmap.ranges()], [{ offset: 0, length: 1_000_001 }]);
  bitmap.clear(0, 1_000_001);
  assert.equal(bitmap.count, 0);
  bitmap.setAll();
  bitmap.clearAll();
  assert.equal(bitmap.nextDirty(0), undefined);
});

test('merging makes dirty every byte that was dirty in either, and no granule besides', () => {
  const property = fc.property(given, given, (one, two) => {
    const a = build(one);
    const b = build({ ...two, size: one.size });
    const before = new Set(a.oracle);
    a.bitmap.merge(b.bitmap);
    const unit = one.granularity;
    const expected = new Set(before);
    for (const { offset, length } of b.bitmap.ranges()) {
      for (let granule = Math.floor(offset / unit); granule * unit < offset + length; granule++)
        expected.add(granule);
    }
    for (let granule = 0; granule * unit < one.size; granule++) {
      assert.equal(a.bitmap.isDirty(granule * unit), expected.has(granule));
    }
  });
  fc.assert(property, { numRuns: 200 });
});

test('merging is idempotent and the order of merges does not matter', () => {
  const property = fc.property(given, given, given, (one, two, three) => {
    const others = [two, three].map((other) => ({ ...other, size: one.size }));
    const merged = (order: readonly Given[]): string => {
      const { bitmap } = build(one);
      for (const other of order) bitmap.merge(build(other).bitmap);
      bitmap.merge(bitmap);
      return JSON.stringify([...bitmap.ranges()]);
    };
    assert.equal(merged(others), merged([...others].reverse()));
    assert.equal(merged(others), merged([...others, ...others]));
  });
  fc.assert(property, { numRuns: 100 });
});

test('bitmaps of different sizes are not merged', () => {
  assert.throws(
    () => new DirtyBitmap(1000, 512).merge(new DirtyBitmap(1001, 512)),
    (error) => isDiskError(error, 'invalid') && error.message.startsWith('Bitmaps are of different sizes'),
  );
});

test('granularities are powers of two from 512 bytes to 2 GiB', () => {
  for (const good of [512, 1024, 65536, 2 ** 31]) assert.equal(new DirtyBitmap(1, good).granularity, good);
  for (const bad of [0, 1, 256, 511, 513, 2 ** 32, -512, Number.NaN, 512.5, Number.POSITIVE_INFINITY]) {
    assert.throws(
      () => new DirtyBitmap(1, bad),
      (error) => isDiskError(error, 'invalid'),
      `${bad}`,
    );
  }
});

test('ranges outside the disk are refused and change nothing', () => {
  const bitmap = new DirtyBitmap(1000, 512);
  for (const [offset, length] of [
    [0, 1001],
    [1000, 1],
    [-1, 1],
    [0.5, 1],
    [0, -1],
  ] as const) {
    assert.throws(() => bitmap.set(offset, length), RangeError);
    assert.throws(() => bitmap.clear(offset, length), RangeError);
  }
  assert.throws(() => bitmap.isDirty(1000), RangeError);
  assert.throws(() => bitmap.nextDirty(1001), RangeError);
  assert.equal(bitmap.count, 0);
  bitmap.set(1000, 0);
  assert.equal(bitmap.count, 0);
});

test('a disk of no bytes has a bitmap', () => {
  const bitmap = new DirtyBitmap(0, 512);
  bitmap.setAll();
  assert.equal(bitmap.count, 0);
  assert.deepEqual([...bitmap.ranges()], []);
});

test('the largest disk at the finest granularity can be all dirty, and half', () => {
  const bitmap = new DirtyBitmap(Number.MAX_SAFE_INTEGER, 512);
  bitmap.setAll();
  assert.equal(bitmap.count, Number.MAX_SAFE_INTEGER);
  bitmap.clear(0, 2 ** 52);
  assert.deepEqual([...bitmap.ranges()], [{ offset: 2 ** 52, length: 2 ** 52 - 1 }]);
});

test('a thousand bitmaps of 64 TiB, all dirty but for one granule, fit 64 MiB', () => {
  const before = process.memoryUsage();
  const bitmaps = Array.from({ length: 1000 }, () => {
    const bitmap = new DirtyBitmap(64 * TiB, 512);
    bitmap.setAll();
    bitmap.clear(40 * TiB, 512);
    return bitmap;
  });
  const after = process.memoryUsage();
  const grown = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
  assert.ok(grown < 64 * 1024 * 1024, `${grown} bytes`);
  for (const bitmap of bitmaps) assert.equal(bitmap.count, 64 * TiB - 512);
});

test('a bitmap without room for all of its granules has more of them dirty, never fewer, and takes no more', () => {
  const property = fc.property(given, fc.integer({ min: 0, max: 4000 }), (parameters, left) => {
    const { size: total, granularity: unit } = parameters;
    const exact = build(parameters);
    const room = { left };
    const small = new DirtyBitmap(total, unit, room);
    for (const [kind, [a, b]] of parameters.changes) {
      const offset = Math.floor(Math.min(a, b) * total);
      const length = Math.ceil(Math.max(a, b) * total) - offset;
      if (kind === 'set') small.set(offset, length);
      else small.clear(offset, length);
      assert.ok(room.left >= 0);
    }
    for (const granule of exact.oracle) assert.ok(small.isDirty(granule * unit), `granule ${granule}`);
    assert.equal(
      small.count,
      [...small.ranges()].reduce((sum, { length }) => sum + length, 0),
    );
    const bits = new Uint8Array(512);
    small.exportBits(0, bits);
    const again = new DirtyBitmap(total, unit);
    again.importBits(0, bits);
    assert.deepEqual([...again.ranges()], [...small.ranges()]);
    for (let granule = Math.ceil(total / unit); granule < 4096; granule++)
      assert.equal((bits[granule >>> 3] as number) & (1 << (granule & 7)), 0);
    const copy = small.copy();
    for (const { offset } of small.ranges()) assert.ok(copy.isDirty(offset));
    copy.retire();
    small.clearAll();
    assert.equal(room.left, left);
  });
  fc.assert(property, { numRuns: 300 });
});

test('a copy goes its own way, and a retired bitmap says that all is dirty', () => {
  const bitmap = new DirtyBitmap(1 << 20, 512);
  bitmap.set(5000, 1);
  const copy = bitmap.copy();
  bitmap.set(100_000, 1);
  copy.clear(0, 1 << 20);
  assert.deepEqual([bitmap.count, copy.count], [1024, 0]);
  bitmap.retire();
  assert.equal(bitmap.count, 1 << 20);
});

test('runs of leaves tell what the ranges tell', () => {
  const property = fc.property(given, (parameters) => {
    const { bitmap } = build({ ...parameters, size: parameters.size * 8 });
    const told = new DirtyBitmap(bitmap.size, bitmap.granularity);
    let next = 0;
    const reach = 4096 * bitmap.granularity;
    for (const { first, leaves, content } of bitmap.leafRuns()) {
      assert.equal(first, next);
      next += leaves * 4096;
      const at = first * bitmap.granularity;
      if (content === 1) told.set(at, Math.min(leaves * reach, bitmap.size - at));
      if (content instanceof Uint32Array) told.importBits(first, new Uint8Array(content.buffer));
    }
    assert.ok(next * bitmap.granularity >= bitmap.size);
    assert.deepEqual([...told.ranges()], [...bitmap.ranges()]);
  });
  fc.assert(property, { numRuns: 100 });
});
