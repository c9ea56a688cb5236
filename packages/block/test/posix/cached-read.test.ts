import assert from 'node:assert/strict';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { createFile, openFile } from '@strata/block';
import { assertSameBytes, randomFrom, requires, runOk, temporaryFolder } from '@strata/testkit';

const TMPFS = 0x0102_1994;
const inMemory = (await statfs(tmpdir())).type === TMPFS;
const needs =
  process.platform !== 'linux' || inMemory ? { skip: 'needs files on a disk of Linux' } : requires('dd');

/** Drops a file's pages from the cache (GNU dd, posix_fadvise). */
const dropCached = (path: string) => runOk('dd', [`if=${path}`, 'iflag=nocache', 'count=0']);

test('what is not in the page cache is not read at once; after a read it is', needs, async () => {
  await using folder = await temporaryFolder();
  const data = randomFrom(1).bytes(1 << 20);
  const path = folder.file('disk');
  {
    await using file = await createFile(path);
    await file.write(data, 0);
    await file.flush();
  }
  await dropCached(path);
  await using file = await openFile(path, { access: 'read' });
  const into = new Uint8Array(1 << 20);
  assert.equal(file.tryRead(into, 0), false);
  // The host may take the pages back at any time.
  for (let tries = 0; tries < 1000; tries++) {
    await file.read(into, 0);
    assertSameBytes(into, data);
    into.fill(0);
    if (file.tryRead(into, 0)) return assertSameBytes(into, data);
  }
  assert.fail('what was just read is never in the page cache');
});

test('a long read that cannot be done at once is begun', { ...needs, ...requires('fincore') }, async () => {
  await using folder = await temporaryFolder();
  const length = 8 << 20;
  const path = folder.file('disk');
  {
    await using file = await createFile(path);
    await file.write(randomFrom(3).bytes(length), 0);
    await file.flush();
  }
  await dropCached(path);
  await using file = await openFile(path, { access: 'read' });
  assert.equal(file.tryRead(new Uint8Array(length), 0), false);
  // fincore (util-linux) asks the kernel and reads nothing. Nobody reads the file; still it arrives.
  const arrived = async () => Number(await runOk('fincore', ['-nb', '-o', 'RES', path]));
  while ((await arrived()) < length / 2) await setTimeout(10);
});

test('a file that lies in memory is always read at once', needs, async () => {
  await using folder = await temporaryFolder('/dev/shm');
  await using file = await createFile(folder.file('disk'));
  await file.truncate(1 << 20);
  await file.write(Uint8Array.of(5), 1000);
  const into = new Uint8Array(1 << 20);
  assert.equal(file.tryRead(into, 0), true);
  assert.equal(into.indexOf(5), 1000);
});

test('a buffer is filled where it is: views and slabs', needs, async () => {
  await using folder = await temporaryFolder();
  await using file = await createFile(folder.file('disk'));
  const data = randomFrom(2).bytes(1000);
  await file.write(data, 0);
  const slab = Buffer.allocUnsafe(1000);
  assert.equal(file.tryRead(slab, 0), true);
  assertSameBytes(new Uint8Array(slab), data);
  const frame = new ArrayBuffer(3000);
  const view = new Uint8Array(frame, 1001, 1000);
  assert.equal(file.tryRead(view, 0), true);
  assertSameBytes(view, data);
  assertSameBytes(new Uint8Array(frame, 0, 1001), new Uint8Array(1001));
  assertSameBytes(new Uint8Array(frame, 2001), new Uint8Array(999));
});
