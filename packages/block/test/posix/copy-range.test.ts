import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { createFile, MemoryDevice, raw, rawWindow } from '@strata/block';
import { assertSameBytes, randomFrom, temporaryFolder } from '@strata/testkit';
import { copyRange } from '../../src/posix/copy-range.ts';
import type { Libc } from '../../src/posix/libc.ts';

const onLinux = process.platform === 'linux' ? {} : { skip: 'the host copies on Linux only' };

test('bytes are copied from file to file, at any offsets, and a file grows', onLinux, async () => {
  await using folder = await temporaryFolder();
  await using from = await createFile(folder.file('from'));
  await using to = await createFile(folder.file('to'));
  const bytes = randomFrom(1).bytes(3_000_001);
  await from.write(bytes, 0);
  const place = await from.placeAt?.(7, 2_999_999);
  assert.deepEqual(place, { host: from, at: 7, length: 2_999_994 });
  assert.equal(await from.placeAt?.(3_000_001, 1), undefined);
  assert.equal(await to.copyFrom?.({ host: from, at: 7, length: 2_000_000 }, 4099), true);
  assert.equal(to.size, 2_004_099);
  assertSameBytes((await readFile(to.path)).subarray(4099), bytes.subarray(7, 2_000_007));
  const back = new Uint8Array(4099);
  await to.read(back, 0);
  assertSameBytes(back, new Uint8Array(4099));
});

test('what the host cannot copy is said, and nothing grows', onLinux, async () => {
  await using folder = await temporaryFolder();
  await using file = await createFile(folder.file('file'));
  await using other = await createFile(folder.file('other'));
  await file.write(randomFrom(2).bytes(100_000), 0);
  assert.equal(await other.copyFrom?.({ host: new MemoryDevice(10), at: 0, length: 10 }, 0), false);
  // Overlapping ranges of one file; and more than there is.
  assert.equal(await file.copyFrom?.({ host: file, at: 0, length: 50_000 }, 1000), false);
  assert.equal(await other.copyFrom?.({ host: file, at: 99_000, length: 5000 }, 0), false);
  assert.equal(other.size, 0);
  await assert.rejects(async () => other.copyFrom?.({ host: file, at: 0, length: 1 }, -1), RangeError);
  await other[Symbol.asyncDispose]();
  await assert.rejects(async () => other.copyFrom?.({ host: file, at: 0, length: 1 }, 0), { code: 'closed' });
});

test('raw layers pass copies on to their part of the file', onLinux, async () => {
  await using folder = await temporaryFolder();
  await using from = await createFile(folder.file('from'));
  const bytes = randomFrom(3).bytes(10_000);
  await from.write(bytes, 0);
  const range = { host: from, at: 100, length: 512 };
  const below = new MemoryDevice(0);
  for (const [format, start] of [
    [raw, 0],
    [rawWindow({ offset: 4096 }), 4096],
  ] as const) {
    await using to = await createFile(folder.file(`to-${start}`));
    await to.truncate(8192);
    const layer = await format.open(to);
    assert.equal(await layer.copyFrom?.(range, 1024, below), true);
    assertSameBytes((await readFile(to.path)).subarray(start + 1024, start + 1536), bytes.subarray(100, 612));
  }
});

test('short copies go on where they ended, and what only says that it cannot be is no failure', async () => {
  const { errno } = (await import('node:os')).constants;
  const asked: (readonly [number, number, number])[] = [];
  const answers = (...results: number[]): Libc => {
    const copyFileRange = async (_: number, at: number, __: number, to: number, length: number) => {
      asked.push([at, to, length]);
      return results.shift() as number;
    };
    return { copyFileRange } as unknown as Libc;
  };
  const copied = (libc: Libc): Promise<boolean> =>
    copyRange(libc, { fd: 3, at: 10 }, { fd: 4, at: 1000 }, 100);
  assert.equal(await copied(answers(60, -errno.EINTR, 40)), true);
  assert.deepEqual(asked, [
    [10, 1000, 100],
    [70, 1060, 40],
    [70, 1060, 40],
  ]);
  assert.equal(await copied(answers(60, 0)), false);
  for (const name of ['EXDEV', 'EINVAL', 'ENOSYS', 'EOPNOTSUPP'] as const)
    assert.equal(await copied(answers(60, -errno[name])), false);
  await assert.rejects(copied(answers(-errno.ENOSPC)), { code: 'no-space' });
  await assert.rejects(copied(answers(-errno.EIO)), { code: 'io', context: { op: 'copy_file_range' } });
});
