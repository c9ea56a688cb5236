/** A stamp tells every change of a file, and is taken when the next change cannot have the same time. */
import assert from 'node:assert/strict';
import { appendFile, chmod, copyFile, rename, truncate, utimes, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { createFile, openFile } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { type FileTimes, settledTimes, stampOf } from '../../src/devices/file-times.ts';

const times = (ms: number, change: Partial<FileTimes> = {}): FileTimes => {
  const ns = BigInt(Math.round(ms * 1e6));
  return { ino: 7n, size: 512n, mtimeNs: ns, ctimeNs: ns, ...change };
};

test('the stamp is another one after any change that a program can make', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk');
  const stampNow = async (): Promise<string | undefined> => {
    await using file = await openFile(path, { access: 'read' });
    return await file.stamp?.();
  };
  const sealed = async (): Promise<string | undefined> => {
    await using file = await openFile(path, { access: 'write' });
    return await file.seal?.();
  };
  await writeFile(path, 'old bytes');
  await writeFile(folder.file('other'), 'new bytes');
  const changes: readonly (() => Promise<unknown>)[] = [
    () => writeFile(path, 'new bytes'),
    () => appendFile(path, 'x'),
    () => truncate(path, 3),
    () => copyFile(folder.file('other'), path),
    () => rename(folder.file('other'), path),
    () => chmod(path, 0o600),
    async () => {
      await writeFile(path, 'new bytes');
      await utimes(path, 1, 1);
    },
  ];
  for (const change of changes) {
    const before = await sealed();
    assert.equal(await stampNow(), before);
    await change();
    assert.notEqual(await stampNow(), before, String(change));
  }
});

test('a seal is taken when the clock has left the tick of the last change', async () => {
  let looks = 0;
  const look = async (): Promise<FileTimes> => {
    looks++;
    return times(1_000_000.25);
  };
  await settledTimes(look, () => 1_000_500);
  assert.equal(looks, 1);
  await settledTimes(look, () => 1_000_001);
  assert.equal(looks, 3);
  // The clock is behind the file system's: the time lies in the future.
  await settledTimes(look, () => 900_000);
  assert.equal(looks, 5);
});

test('whole seconds are taken for a file system that keeps no more', async () => {
  let looks = 0;
  const look = async (): Promise<FileTimes> => {
    looks++;
    return times(1_000_000);
  };
  await settledTimes(look, () => 1_003_000);
  assert.equal(looks, 1);
  await settledTimes(look, () => 1_002_050);
  assert.equal(looks, 3);
});

test('what was written just before the seal is in it, and what is written just after is not', async () => {
  await using folder = await temporaryFolder();
  await using file = await createFile(folder.file('disk'));
  for (let round = 0; round < 5; round++) {
    await file.write(new Uint8Array(512).fill(round), 0);
    const sealed = await file.seal?.();
    assert.equal(await file.stamp?.(), sealed);
    await file.write(new Uint8Array(512).fill(100), 0);
    assert.notEqual(await file.stamp?.(), sealed);
  }
  assert.notEqual(stampOf(times(1)), stampOf(times(1, { ino: 8n })));
});
