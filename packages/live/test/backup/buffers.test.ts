/** Memory for copies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Buffers } from '../../src/backup/buffers.ts';

test('a buffer has the length that is asked for, is used again, and is not given twice at a time', async () => {
  const buffers = new Buffers();
  let first: ArrayBufferLike | undefined;
  await buffers.using(5000, async (buffer) => {
    assert.equal(buffer.length, 5000);
    first = buffer.buffer;
    await buffers.using(8000, async (other) => assert.notEqual(other.buffer, first));
  });
  const again: ArrayBufferLike[] = [];
  await buffers.using(8192, async (a) => {
    again.push(a.buffer);
    await buffers.using(4097, async (b) => void again.push(b.buffer));
  });
  assert.ok(first !== undefined && again.includes(first));
});

test('a buffer is given back when its use fails', async () => {
  const buffers = new Buffers();
  let first: ArrayBufferLike | undefined;
  const use = buffers.using(4096, async (buffer) => {
    first = buffer.buffer;
    throw new Error('no');
  });
  await assert.rejects(use, /no/);
  await buffers.using(4096, async (buffer) => assert.equal(buffer.buffer, first));
});
