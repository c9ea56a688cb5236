import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferPool } from '../../src/server/buffer-pool.ts';

test('the pool gives buffers back that fit, and keeps no more than it may', () => {
  const pool = new BufferPool(300 * 1024);
  const first = pool.take(256 * 1024 + 28);
  assert.ok(first.length >= 256 * 1024 + 28);
  pool.give(first);
  assert.equal(pool.take(200 * 1024), first);
  const small = pool.take(10);
  const large = pool.take(512 * 1024);
  pool.give(large);
  assert.notEqual(pool.take(512 * 1024), large);
  pool.give(small);
  assert.equal(pool.take(1), small);
});
