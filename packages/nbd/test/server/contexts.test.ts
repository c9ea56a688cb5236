import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExtentKind } from '@strata/block';
import {
  allocationDepth,
  baseAllocation,
  contextIds,
  dirtyBitmap,
  type MetaContext,
  matchesQuery,
} from '../../src/server/contexts.ts';
import { testDisk } from './test-disk.ts';

const KiB = 1024;
/** Bit 0 says hole, bit 1 says zero; the values are those of qemu-nbd 7.2 for a qcow2 image with each kind. */
const kinds = { data: 0, compressed: 0, zero: 3, 'zero-allocated': 3, hole: 3 } as const satisfies Record<
  ExtentKind,
  number
>;

for (const [kind, flags] of Object.entries(kinds) as [ExtentKind, number][]) {
  test(`base:allocation says ${flags} of ${kind}, at once and waiting`, async () => {
    const disk = testDisk({ size: 64 * KiB });
    disk.setKind(8 * KiB, 8 * KiB, kind);
    const context = baseAllocation(disk.device);
    const expected = { length: 3 * KiB, flags };
    assert.deepEqual(context.tryDescribe(9 * KiB, 3 * KiB), expected);
    assert.deepEqual(await context.describe(9 * KiB, 3 * KiB), expected);
  });
}

test('qemu:allocation-depth says which image decides, and 0 of a hole', async () => {
  const disk = testDisk({ size: 64 * KiB });
  disk.setKind(0, 8 * KiB, 'data', 3);
  disk.setKind(8 * KiB, 8 * KiB, 'zero', 1);
  const context = allocationDepth(disk.device);
  assert.deepEqual(context.tryDescribe(0, 64 * KiB), { length: 8 * KiB, flags: 3 });
  assert.deepEqual(await context.describe(8 * KiB, 64 * KiB), { length: 8 * KiB, flags: 1 });
  assert.deepEqual(context.tryDescribe(16 * KiB, 64 * KiB), { length: 48 * KiB, flags: 0 });
});

test('qemu:dirty-bitmap says 1 of runs that are dirty, and 0 between and behind them', async () => {
  const runs = [
    { offset: 4 * KiB, length: 8 * KiB },
    { offset: 20 * KiB, length: 4 * KiB },
  ];
  const context = dirtyBitmap('b', {
    nextDirty: (from) => {
      const run = runs.find(({ offset, length }) => offset + length > from);
      const start = Math.max(from, run?.offset ?? 0);
      return run && { offset: start, length: run.offset + run.length - start };
    },
  });
  assert.equal(context.name, 'qemu:dirty-bitmap:b');
  for (const [offset, limit, length, flags] of [
    [0, 64, 4, 0],
    [0, 3, 3, 0],
    [4, 64, 8, 1],
    [6, 64, 6, 1],
    [6, 2, 2, 1],
    [12, 64, 8, 0],
    [24, 40, 40, 0],
  ] as const) {
    const expected = { length: length * KiB, flags };
    assert.deepEqual(context.tryDescribe(offset * KiB, limit * KiB), expected);
    assert.deepEqual(await context.describe(offset * KiB, limit * KiB), expected);
  }
});

test('a disk that has to wait is not described at once', () => {
  const { device } = testDisk({ slow: true });
  assert.equal(baseAllocation(device).tryDescribe(0, 1), undefined);
  assert.equal(allocationDepth(device).tryDescribe(0, 1), undefined);
});

test("identifiers are QEMU's: 0, 1, and from 2 on in the order given", () => {
  const named = (name: string): MetaContext => ({ ...baseAllocation(testDisk().device), name });
  const ids = (...names: readonly string[]) =>
    Array.from(contextIds(names.map(named)), ([id, { name }]) => [id, name]);
  assert.deepEqual(
    ids('qemu:dirty-bitmap:b', 'qemu:allocation-depth', 'qemu:dirty-bitmap:a', 'base:allocation'),
    [
      [0, 'base:allocation'],
      [1, 'qemu:allocation-depth'],
      [2, 'qemu:dirty-bitmap:b'],
      [3, 'qemu:dirty-bitmap:a'],
    ],
  );
  assert.deepEqual(ids('qemu:allocation-depth'), [[1, 'qemu:allocation-depth']]);
  assert.deepEqual(ids(), []);
});

test('a query is a name or the beginning of one up to a colon', () => {
  const name = 'qemu:dirty-bitmap:b0';
  for (const query of ['qemu:', 'qemu:dirty-bitmap:', 'qemu:dirty-bitmap:b0']) {
    assert.ok(matchesQuery(query, name), query);
  }
  for (const query of [
    '',
    'qemu',
    'qemu:dirty',
    'qemu:dirty-bitmap:b',
    'base:',
    ':',
    'qemu:dirty-bitmap:b0:',
  ]) {
    assert.ok(!matchesQuery(query, name), query);
  }
});
