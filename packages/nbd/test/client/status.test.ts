import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ContextWalk, ExtentWalk } from '../../src/client/status.ts';
import type { BlockStatus } from '../../src/protocol/extents.ts';

const status = (...runs: readonly (readonly [number, number])[]): BlockStatus => ({
  contextId: 0,
  lengths: Uint32Array.from(runs, ([length]) => length),
  flags: Uint32Array.from(runs, ([, flags]) => flags),
});
const whole = 2 ** 40;

test('flags and depth make these kinds', () => {
  for (const [flags, depth, kind] of [
    [0, 1, 'data'],
    [1, 1, 'data'],
    [2, 1, 'zero-allocated'],
    [3, 1, 'zero'],
    [3, 4, 'zero'],
    [0, 0, 'hole'],
    [3, 0, 'hole'],
    [0xfffffffc, 2, 'data'],
    [0xffffffff, 0xffffffff, 'zero'],
  ] as const) {
    const walk = new ExtentWalk(status([4096, flags]), status([4096, depth]), 0);
    assert.deepEqual(walk.at(0, 4096), { offset: 0, length: 4096, kind, depth }, `${flags} ${depth}`);
  }
});

test('with one context alone the other is taken for what says least', () => {
  assert.deepEqual(new ExtentWalk(status([8, 3]), undefined, 0).at(0, 8), {
    offset: 0,
    length: 8,
    kind: 'zero',
    depth: 1,
  });
  assert.deepEqual(new ExtentWalk(undefined, status([8, 2]), 0).at(0, 8), {
    offset: 0,
    length: 8,
    kind: 'data',
    depth: 2,
  });
  assert.deepEqual(new ExtentWalk(undefined, status([8, 0]), 0).at(0, 8), {
    offset: 0,
    length: 8,
    kind: 'hole',
    depth: 0,
  });
});

test('runs that are alike are one extent, and the shorter of two contexts bounds it', () => {
  const walk = new ExtentWalk(status([10, 3], [10, 3], [10, 0]), status([15, 1], [100, 2]), 100);
  assert.deepEqual(walk.at(100, whole), { offset: 100, length: 15, kind: 'zero', depth: 1 });
  assert.deepEqual(walk.at(115, whole), { offset: 115, length: 5, kind: 'zero', depth: 2 });
  assert.deepEqual(walk.at(120, whole), { offset: 120, length: 10, kind: 'data', depth: 2 });
  assert.equal(walk.at(130, whole), undefined, 'the first context does not reach so far');
});

test('what was passed is not told again, and neither is what lies before', () => {
  const walk = new ContextWalk(status([10, 1], [10, 2]), 100);
  assert.equal(walk.at(99, 1), undefined);
  assert.deepEqual(walk.at(105, whole), { offset: 105, length: 5, flags: 1 });
  assert.deepEqual(walk.at(112, 3), { offset: 112, length: 3, flags: 2 });
  assert.deepEqual(walk.at(115, 100), { offset: 115, length: 5, flags: 2 });
  assert.equal(walk.at(105, 1), undefined);
});

test('extents longer than the request, up to 2^32 - 1 each, are borne', () => {
  const walk = new ContextWalk(status([0xffffffff, 7], [0xffffffff, 7], [1, 0]), 2 ** 52);
  assert.deepEqual(walk.at(2 ** 52 + 5, whole), {
    offset: 2 ** 52 + 5,
    length: 2 * 0xffffffff - 5,
    flags: 7,
  });
});

test('a walk tells of every byte what the runs say, in steps of any size', () => {
  const run = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.nat(3));
  const runs = fc.array(run, { minLength: 1, maxLength: 30 });
  const steps = fc.infiniteStream(fc.integer({ min: 1, max: 50 }));
  const property = fc.property(runs, runs, steps, (allocation, depths, sizes) => {
    const bytes = (list: readonly (readonly [number, number])[]): number[] =>
      list.flatMap(([length, flags]) => new Array<number>(length).fill(flags));
    const [flags, levels] = [bytes(allocation), bytes(depths)];
    const walk = new ExtentWalk(status(...allocation), status(...depths), 0);
    const end = Math.min(flags.length, levels.length);
    let offset = 0;
    while (offset < end) {
      const limit = sizes.next().value as number;
      const found = walk.at(offset, limit);
      assert.ok(found !== undefined && found.offset === offset && found.length <= limit);
      for (let at = offset; at < offset + found.length; at++) {
        const isZero = ((flags[at] as number) & 2) !== 0;
        assert.equal(found.depth, levels[at]);
        assert.equal(found.kind !== 'data', isZero || levels[at] === 0, `byte ${at}`);
      }
      offset += found.length;
    }
    assert.equal(offset, end);
    assert.equal(walk.at(offset, 1), undefined);
  });
  fc.assert(property);
});
