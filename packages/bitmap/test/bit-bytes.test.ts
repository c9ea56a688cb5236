import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesOf, withBytes } from '../src/bit-bytes.ts';
import { allIn, allOut, type BitTree, find, put, treeBits } from '../src/bit-tree.ts';

const room = { left: Number.POSITIVE_INFINITY };
const leaf = 4096;
const limit = 5 * leaf;

/** The numbers of `bytes`, spelt out. */
function numbersIn(bytes: Uint8Array, first: number): number[] {
  const numbers: number[] = [];
  bytes.forEach((byte, at) => {
    for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) numbers.push(first + at * 8 + bit);
  });
  return numbers;
}

const runs = fc.array(fc.tuple(fc.nat(limit), fc.nat(3 * leaf)), { maxLength: 8 });

function treeOf(
  ranges: readonly (readonly [number, number])[],
  bits: number,
): { tree: BitTree; numbers: Set<number> } {
  let tree: BitTree = allOut;
  const numbers = new Set<number>();
  for (const [from, length] of ranges) {
    const to = Math.min(from + length, limit);
    tree = put(tree, bits, from, to, allIn, room);
    for (let number = from; number < to; number++) numbers.add(number);
  }
  return { tree, numbers };
}

test('bytes have exactly the numbers of the tree, the lowest bit first', () => {
  const property = fc.property(
    runs,
    fc.nat(4),
    fc.integer({ min: 1, max: 1500 }),
    (ranges, firstLeaf, length) => {
      const bits = treeBits(limit);
      const { tree, numbers } = treeOf(ranges, bits);
      const first = firstLeaf * leaf;
      const into = new Uint8Array(length).fill(0x5a);
      bytesOf(tree, bits, first, into);
      const wanted = [...numbers].filter((number) => number >= first && number < first + length * 8);
      assert.deepEqual(
        numbersIn(into, first),
        wanted.sort((a, b) => a - b),
      );
    },
  );
  fc.assert(property, { numRuns: 100 });
});

test('what bytes have is put in beside what was in, up to the end', () => {
  const property = fc.property(
    runs,
    fc.uint8Array({ minLength: 1, maxLength: 1200 }),
    fc.nat(4),
    fc.integer({ min: 1, max: limit }),
    (ranges, bytes, firstLeaf, count) => {
      const bits = treeBits(limit);
      const { tree, numbers } = treeOf(ranges, bits);
      const first = firstLeaf * leaf;
      for (const number of numbersIn(bytes, first)) if (number < count) numbers.add(number);
      const result = withBytes(tree, bits, first, bytes, count, room);
      const found: number[] = [];
      for (let at = find(result, bits, 0, allIn); at < 2 ** bits; at = find(result, bits, at + 1, allIn))
        found.push(at);
      assert.deepEqual(
        found,
        [...numbers].sort((a, b) => a - b),
      );
    },
  );
  fc.assert(property, { numRuns: 100 });
});

test('a tree filled from bytes is as small as one that was put', () => {
  const bits = treeBits(2 ** 20);
  assert.equal(withBytes(allOut, bits, 0, new Uint8Array(2 ** 17).fill(0xff), 2 ** 20, room), allIn);
  assert.equal(withBytes(allOut, bits, 0, new Uint8Array(2 ** 17), 2 ** 20, room), allOut);
});
