import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { allIn, allOut, type BitTree, countIn, find, put, treeBits } from '../src/bit-tree.ts';

/** A tree of two levels holds 2^20 numbers. */
const bits = 20;
const count = 2 ** bits;
const room = { left: Number.POSITIVE_INFINITY };

test('a tree has room for what it must hold, and is no deeper than that', () => {
  for (const [numbers, expected] of [
    [0, 12],
    [4096, 12],
    [4097, 20],
    [2 ** 20, 20],
    [2 ** 37, 44],
    [2 ** 44, 44],
  ] as const) {
    assert.equal(treeBits(numbers), expected);
  }
});

const edge = fc.oneof(
  fc.nat(count),
  fc.nat(300).map((word) => word * 32),
  fc.nat(256).map((leaf) => leaf * 4096),
  fc.constantFrom(0, 1, 31, 32, 33, 4095, 4096, 4097, count - 1, count),
);
const change = fc.tuple(edge, edge, fc.constantFrom<0 | 1>(allOut, allIn));

test('any changes leave what an array of flags has', () => {
  const property = fc.property(
    fc.array(change, { maxLength: 30 }),
    fc.array(edge, { maxLength: 50 }),
    (changes, probes) => {
      const oracle = new Uint8Array(count);
      let tree: BitTree = allOut;
      for (const [a, b, state] of changes) {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        tree = put(tree, bits, from, to, state, room);
        oracle.fill(state, from, to);
      }
      assert.equal(
        countIn(tree, bits, count),
        oracle.reduce((sum, flag) => sum + flag, 0),
      );
      for (const limit of probes) {
        const expected = oracle.subarray(0, limit).reduce((sum, flag) => sum + flag, 0);
        assert.equal(countIn(tree, bits, limit), expected, `below ${limit}`);
      }
      for (const from of [...probes, ...changes.flat()]) {
        for (const state of [allOut, allIn] as const) {
          const found = oracle.indexOf(state, from);
          assert.equal(find(tree, bits, from, state), found < 0 ? count : found, `${from} ${state}`);
        }
      }
    },
  );
  fc.assert(property, { numRuns: 200 });
});

test('what becomes alike again is one state', () => {
  let tree = put(allOut, bits, 5, 7, allIn, room);
  tree = put(tree, bits, 100_000, 300_000, allIn, room);
  assert.notEqual(tree, allOut);
  assert.equal(put(put(tree, bits, 5, 7, allOut, room), bits, 100_000, 300_000, allOut, room), allOut);
  let whole: BitTree = allOut;
  for (let from = 0; from < count; from += 1000)
    whole = put(whole, bits, from, Math.min(from + 1000, count), allIn, room);
  assert.equal(whole, allIn);
});
