import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { test } from 'node:test';
import { DiskError, type ErrorCode, errnoName, errnoSentence, hostError } from '@strata/block';
import { requires, runOk, temporaryFolder } from '@strata/testkit';

/** An error as node:fs throws it. */
function nodeError(name: keyof typeof constants.errno): Error {
  return Object.assign(new Error(`${name}: some text`), { code: name, errno: -constants.errno[name] });
}

test('the sentences are those of the C library', requires('perl'), async () => {
  const names = [
    'ENOENT',
    'EACCES',
    'EISDIR',
    'ENOSPC',
    'EDQUOT',
    'EFBIG',
    'EROFS',
    'EIO',
    'ESTALE',
    'ELOOP',
  ];
  const numbers = names.map((name) => constants.errno[name as 'EIO']);
  const program = 'for (@ARGV) { $! = $_; print "$!\\n" }';
  const expected = (await runOk('perl', ['-e', program, ...numbers.map(String)])).trim().split('\n');
  assert.deepEqual(names.map(errnoSentence), expected);
  assert.deepEqual(numbers.map(errnoName), names);
});

test('each errno gets the code that callers switch on', () => {
  const expected: Partial<Record<keyof typeof constants.errno, ErrorCode>> = {
    ENOSPC: 'no-space',
    EDQUOT: 'no-space',
    EFBIG: 'no-space',
    ENOENT: 'not-found',
    EACCES: 'denied',
    EPERM: 'denied',
    EROFS: 'read-only',
    EEXIST: 'exists',
    EIO: 'io',
    EINVAL: 'io',
  };
  for (const [name, code] of Object.entries(expected)) {
    const error = hostError(nodeError(name as 'EIO'), { path: 'x' });
    assert.ok(error instanceof DiskError);
    assert.equal(error.code, code, name);
  }
});

test('an error of node:fs keeps what it was as the cause', async () => {
  await using folder = await temporaryFolder();
  const cause: unknown = await readFile(folder.file('missing')).catch((error: unknown) => error);
  const error = hostError(cause, { path: 'x', op: 'open' });
  assert.ok(error instanceof DiskError);
  assert.equal(error.message, 'No such file or directory');
  assert.equal(error.cause, cause);
  assert.deepEqual(error.context, { path: 'x', op: 'open' });
});

test('a number that libuv has no name for is known all the same', () => {
  const error = Object.assign(new Error('x'), {
    code: `Unknown system error -${constants.errno.EDQUOT}`,
    errno: -constants.errno.EDQUOT,
  });
  assert.equal((hostError(error) as DiskError).code, 'no-space');
});

test('a bug of ours is not dressed up as a failure of the host', () => {
  const bug = new TypeError('x is not a function');
  assert.equal(hostError(bug), bug);
  const argument = Object.assign(new TypeError('bad'), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.equal(hostError(argument), argument);
});

test('a DiskError gains context and keeps its own', () => {
  const error = hostError(new DiskError('corrupt', 'bad', { offset: 5 }), { path: 'x', offset: 9 });
  assert.ok(error instanceof DiskError);
  assert.equal(error.code, 'corrupt');
  assert.deepEqual(error.context, { path: 'x', offset: 5 });
});
