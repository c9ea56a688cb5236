import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFrom } from '@strata/testkit';

test('a seed gives the same numbers again, another seed others', () => {
  const draw = (seed: number): number[] => {
    const random = randomFrom(seed);
    return Array.from({ length: 100 }, () => random.upTo(1_000_000));
  };
  assert.deepEqual(draw(1), draw(1));
  assert.notDeepEqual(draw(1), draw(2));
});

test('numbers reach both ends and nothing beyond', () => {
  const random = randomFrom(3);
  const seen = new Set(Array.from({ length: 1000 }, () => random.upTo(5)));
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5],
  );
});

test('bytes are never zero, so that they differ from holes', () => {
  assert.equal(randomFrom(4).bytes(100_000).includes(0), false);
});
