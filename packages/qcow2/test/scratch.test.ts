import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SCRATCH_BYTES, Scratch } from '../src/scratch.ts';

test('a buffer belongs to one user at a time, and comes back afterwards, also from one that fails', async () => {
  const scratch = new Scratch();
  const seen: Uint8Array[] = [];
  const use = async (buffer: Uint8Array): Promise<void> => {
    assert.equal(buffer.length, SCRATCH_BYTES);
    seen.push(buffer);
    await new Promise<void>((resolve) => setImmediate(resolve));
  };
  await Promise.all([scratch.with(use), scratch.with(use)]);
  assert.notEqual(seen[0], seen[1]);
  await assert.rejects(
    scratch.with(async (buffer) => {
      seen.push(buffer);
      throw new Error('no');
    }),
    /no/,
  );
  await Promise.all([scratch.with(use), scratch.with(use)]);
  assert.equal(new Set(seen).size, 2);
});
