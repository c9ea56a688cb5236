import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { qemuImg, requires, run, temporaryFolder } from '@strata/testkit';
import { listBitmaps } from '../src/bitmaps.ts';
import { readHeader } from '../src/header.ts';
import { openHost } from './host.ts';

/** Changes to the first directory entry, at offsets of "Bitmap directory", that QEMU refuses. */
const BROKEN: readonly (readonly [what: string, at: number, hex: string])[] = [
  ['no table', 0, '0000000000000000'],
  ['unaligned table', 0, '0000000000050200'],
  ['table without entries', 8, '00000000'],
  ['huge table', 8, '08000001'],
  ['more than 512 MiB of data', 8, '00002001'],
  ['reserved flags', 12, '00000006'],
  ['other type', 16, '02'],
  ['granularity of 256', 17, '08'],
  ['granularity of 4 GiB', 17, '20'],
  ['long name', 18, '0400'],
  ['name that leaves the directory', 18, 'ffff'],
  ['extra data', 20, '00000008'],
  ['same name twice', 24, '6232'],
];

test(
  'a directory that QEMU refuses is refused in the same words',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    for (const [what, at, hex] of BROKEN) {
      await qemuImg.create(path, '64M');
      await qemuImg.ok('bitmap', '--add', path, 'b1');
      await qemuImg.ok('bitmap', '--add', path, 'b2');
      await using file = await openHost(path);
      const header = await readHeader(file);
      const directoryAt = header.extensions.bitmaps?.directoryAt ?? 0;
      assert.equal((await listBitmaps(file, header)).length, 2);
      await using raw = await open(path, 'r+');
      await raw.write(Buffer.from(hex, 'hex'), 0, undefined, directoryAt + at);

      const { stdout, stderr } = await run('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read 0 512', path]);
      const line = (stderr + stdout).split('\n').find((text) => text.includes("can't open")) ?? '';
      await assert.rejects(listBitmaps(file, header), (error) => {
        assert.ok(isDiskError(error, 'corrupt'), what);
        assert.ok(line.endsWith(error.message), `${what}: "${line}" is not "${error.message}"`);
        return true;
      });
    }
  },
);

test('more or fewer bitmaps than the header says are refused', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, '64M');
  await qemuImg.ok('bitmap', '--add', path, 'one');
  await qemuImg.ok('bitmap', '--add', path, 'two');
  await using file = await openHost(path);
  const header = await readHeader(file);
  const { bitmaps } = header.extensions;
  assert.ok(bitmaps !== undefined);
  const withExtension = (change: object) => ({
    ...header,
    extensions: { ...header.extensions, bitmaps: { ...bitmaps, ...change } },
  });
  const rows: readonly (readonly [change: object, message: string])[] = [
    [{ count: 1 }, 'More bitmaps found than specified in header extension'],
    [{ count: 3 }, 'Less bitmaps found than specified in header extension'],
    [{ directorySize: bitmaps.directorySize - 8 }, 'Broken bitmap directory'],
    [{ directorySize: bitmaps.directorySize + 8 }, 'Broken bitmap directory'],
    [{ directorySize: 0 }, 'Requested bitmap directory size is zero'],
  ];
  for (const [change, message] of rows)
    await assert.rejects(listBitmaps(file, withExtension(change)), { code: 'corrupt', message });
});

test('a bitmap in use may be shorter than the disk', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, '64M');
  await qemuImg.ok('bitmap', '--add', '-g', '512', path, 'b');
  await using file = await openHost(path);
  const header = await readHeader(file);
  const larger = { ...header, size: 2 ** 40 };
  await assert.rejects(listBitmaps(file, larger), { code: 'corrupt' });
  const flagsAt = (header.extensions.bitmaps?.directoryAt ?? 0) + 12;
  await file.write(Buffer.from('00000003', 'hex'), flagsAt);
  assert.deepEqual(
    (await listBitmaps(file, larger)).map(({ inUse, auto }) => [inUse, auto]),
    [[true, true]],
  );
});
