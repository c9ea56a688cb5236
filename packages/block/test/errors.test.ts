import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError, isDiskError, withContext } from '@strata/block';

test('a DiskError has a code, a sentence, context and a cause', () => {
  const cause = new Error('under it');
  const error = new DiskError('corrupt', 'bad table', { path: 'x', offset: 4096, cause });
  assert.equal(error.code, 'corrupt');
  assert.equal(error.message, 'bad table');
  assert.deepEqual(error.context, { path: 'x', offset: 4096 });
  assert.equal(error.cause, cause);
  assert.ok(error instanceof Error);
});

test('it is known by its brand, of another copy of the package too, and by its codes', () => {
  const error = new DiskError('busy', 'x');
  assert.equal(isDiskError(error), true);
  assert.equal(isDiskError(error, 'io', 'busy'), true);
  assert.equal(isDiskError(error, 'io'), false);
  const foreign = Object.assign(new Error('x'), { code: 'io', [Symbol.for('strata.DiskError')]: true });
  assert.equal(isDiskError(foreign, 'io'), true);
  for (const other of [new Error('x'), undefined, null, 'busy', { code: 'busy' }]) {
    assert.equal(isDiskError(other), false);
  }
});

test('context is added and never replaced', () => {
  const cause = new Error('under it');
  const error = new DiskError('io', 'x', { offset: 5, cause });
  const added = withContext(error, { path: 'p', offset: 9 });
  assert.ok(added instanceof DiskError);
  assert.deepEqual(added.context, { path: 'p', offset: 5 });
  assert.equal(added.cause, cause);
  const bug = new TypeError('x');
  assert.equal(withContext(bug, { path: 'p' }), bug);
});
