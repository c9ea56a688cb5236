import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFrom } from '@strata/testkit';
import { merge, split } from '../src/anti-forensic.ts';

for (const [hash, length] of [
  ['sha1', 16],
  ['sha1', 64],
  ['sha256', 32],
  ['sha256', 64],
  ['sha512', 24],
] as const) {
  test(`a key of ${length} bytes comes back from its stripes with ${hash}`, () => {
    const key = randomFrom(length).bytes(length);
    const pieces = split(hash, key, 100);
    assert.equal(pieces.length, 100 * length);
    assert.deepEqual(merge(hash, pieces, length, 100), key);
    pieces[50 * length] = (pieces[50 * length] as number) ^ 1;
    assert.notDeepEqual(merge(hash, pieces, length, 100), key, 'one bit of one stripe is enough to lose it');
  });
}

test('two splits of one key share no stripe', () => {
  const key = new Uint8Array(32);
  assert.notDeepEqual(split('sha256', key, 10), split('sha256', key, 10));
});
