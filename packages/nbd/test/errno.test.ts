import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOfErrno, errnoName, errnoOfCode } from '../src/errno.ts';

test('failures of the disk go out as the numbers the specification names', () => {
  assert.equal(errnoOfCode['read-only'], 1);
  assert.equal(errnoOfCode.io, 5);
  assert.equal(errnoOfCode.invalid, 22);
  assert.equal(errnoOfCode['no-space'], 28);
  assert.equal(errnoOfCode.closed, 108);
});

test('numbers come in as codes, and unknown ones as if they were EINVAL', () => {
  const codes = [1, 5, 12, 22, 28, 75, 95, 108, 30, 0xffffffff].map(codeOfErrno);
  const expected = ['denied', 'io', 'io', 'invalid', 'no-space', 'limit', 'not-supported', 'closed'];
  assert.deepEqual(codes, [...expected, 'invalid', 'invalid']);
  assert.deepEqual([28, 30].map(errnoName), ['ENOSPC', 'error 30']);
});
