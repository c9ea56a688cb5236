import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFile } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';

const onLinux = process.platform === 'linux' ? {} : { skip: 'holes are told on Linux only' };

test('the holes of a file are those that qemu-img map sees', {
  ...onLinux,
  ...requires('qemu-img'),
}, async () => {
  await using folder = await temporaryFolder();
  await using file = await createFile(folder.file('disk'));
  await file.truncate(10 << 20);
  for (const megabyte of [1, 2, 5, 9]) await file.write(new Uint8Array(300_000).fill(7), megabyte << 20);
  await file.zero(2 << 20, 65_536);
  const ours: object[] = [];
  for (let at = 0; at < file.size; ) {
    const { length, kind } = await file.extentAt(at, file.size - at);
    ours.push({ start: at, length, data: kind === 'data' });
    at += length;
  }
  const map = await qemuImg.map(file.path, 'raw');
  assert.deepEqual(
    ours,
    map.map(({ start, length, data }) => ({ start, length, data })),
  );
});

test('more calls at once than the bindings queue are all made', onLinux, async () => {
  await using folder = await temporaryFolder();
  await using file = await createFile(folder.file('disk'));
  await file.write(new Uint8Array(1000 * 4096).fill(7), 0);
  const calls = Array.from({ length: 1000 }, (_, index) =>
    index % 2 === 0 ? file.discard(index * 4096, 4096) : file.zero(index * 4096, 4096),
  );
  await Promise.all(calls);
  assert.equal((await file.extentAt(0, 1000 * 4096)).kind, 'zero');
  assert.equal((await file.extentAt(0, 1000 * 4096)).length, 1000 * 4096);
});
