import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import fc from 'fast-check';
import { Coverage } from '../../src/client/coverage.ts';

const refuses = (call: () => void): void => assert.throws(call, (error) => isDiskError(error, 'protocol'));

test('chunks in order cover a read', () => {
  const coverage = new Coverage(10);
  coverage.add(0, 4);
  assert.equal(coverage.complete, false);
  coverage.add(4, 6);
  assert.equal(coverage.complete, true);
});

test('a chunk that leaves the request is refused', () => {
  for (const [offset, length] of [
    [-1, 1],
    [-1, 2],
    [0, 11],
    [9, 2],
    [10, 1],
    [2 ** 53, 1],
    [0, 0],
  ] as const) {
    refuses(() => new Coverage(10).add(offset, length));
  }
});

test('any order of any cut covers exactly once, and any byte again is refused', () => {
  const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 199 }), { maxLength: 40 });
  fc.assert(
    fc.property(cuts, fc.infiniteStream(fc.nat()), (inner, order) => {
      const edges = [0, ...inner.sort((a, b) => a - b), 200];
      const pieces = edges.slice(1).map((end, index) => ({ start: edges[index] as number, end }));
      const coverage = new Coverage(200);
      const come = new Set<number>();
      while (pieces.length > 0) {
        assert.equal(coverage.complete, false);
        const [{ start, end }] = pieces.splice((order.next().value as number) % pieces.length, 1) as [
          { start: number; end: number },
        ];
        coverage.add(start, end - start);
        for (let byte = start; byte < end; byte++) come.add(byte);
        const again = (order.next().value as number) % 200;
        const length = 1 + ((order.next().value as number) % (200 - again));
        const touches = Array.from({ length }, (_, index) => again + index).some((byte) => come.has(byte));
        if (touches) refuses(() => coverage.add(again, length));
      }
      assert.equal(coverage.complete, true);
    }),
  );
});

test('a server that sends every second byte first is stopped early', () => {
  const coverage = new Coverage(1 << 20);
  let chunks = 0;
  refuses(() => {
    for (let offset = 1; offset < 1 << 20; offset += 2) {
      coverage.add(offset, 1);
      chunks++;
    }
  });
  assert.ok(chunks < 2200, String(chunks));
});

test('sectors in reverse order are borne', () => {
  const coverage = new Coverage(1 << 20);
  for (let offset = (1 << 20) - 512; offset >= 0; offset -= 1024) coverage.add(offset, 512);
  for (let offset = 0; offset < 1 << 20; offset += 1024) coverage.add(offset, 512);
  assert.equal(coverage.complete, true);
});
