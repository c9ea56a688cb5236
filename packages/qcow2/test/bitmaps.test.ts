import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { type BitmapStore, bitmapStoreOf } from '@strata/bitmap';
import { isDiskError, MemoryDevice } from '@strata/block';
import { qemuImg, requires, run, temporaryFolder } from '@strata/testkit';
import { listBitmaps } from '../src/bitmaps.ts';
import { checkImage } from '../src/check.ts';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import { openHost } from './host.ts';

/** Changes to the first directory entry, at offsets of "Bitmap directory", that QEMU refuses. */
const BROKEN: readonly (readonly [what: string, at: number, hex: string])[] = [
  ['no table', 0, '0000000000000000'],
  ['unaligned table', 0, '0000000000050200'],
  ['table without entries', 8, '00000000'],
  ['huge table', 8, '08000001'],
  ['more than 512 MiB of data', 8, '00002001'],
  ['reserved flags', 12, '0000000a'],
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

test('extra data that may be passed over is kept byte for byte, through every change of the directory', async () => {
  const memory = new MemoryDevice();
  await createQcow2(memory, { size: 64 * 2 ** 20 });
  const change = async (work: (bitmaps: BitmapStore) => Promise<unknown>): Promise<void> => {
    await using layer = await qcow2Format.open(memory);
    await work(bitmapStoreOf(layer) as BitmapStore);
  };
  await change((bitmaps) => bitmaps.add('odd', { granularity: 65_536 }));
  const { extensions } = await readHeader(memory);
  const { directoryAt = 0 } = extensions.bitmaps ?? {};
  // The entry is written anew with 20 bytes of extra data in front of the name, and flag 2, extra_data_compatible.
  const extra = Buffer.from('twenty bytes of data');
  const entry = Buffer.alloc(48);
  await memory.read(entry.subarray(0, 24), directoryAt);
  entry.writeUInt32BE(entry.readUInt32BE(12) | 4, 12);
  entry.writeUInt32BE(20, 20);
  extra.copy(entry, 24);
  entry.write('odd', 44);
  await memory.write(entry, directoryAt);
  const sizes = Buffer.alloc(8);
  sizes.writeBigUInt64BE(48n);
  const header = Buffer.alloc(512);
  await memory.read(header, 0);
  await memory.write(sizes, header.indexOf(Buffer.from('23852875', 'hex')) + 16);

  await change((bitmaps) => bitmaps.add('even', { granularity: 65_536 }));
  await change((bitmaps) => bitmaps.clear('odd'));
  await change((bitmaps) => bitmaps.rename('odd', 'strange'));
  await change((bitmaps) => bitmaps.remove('even'));
  const now = await readHeader(memory);
  const [found] = await listBitmaps(memory, now);
  assert.deepEqual([found?.name, found?.extraLength, found?.inUse], ['strange', 20, false]);
  const bytes = Buffer.alloc(51);
  await memory.read(bytes, now.extensions.bitmaps?.directoryAt ?? 0);
  assert.equal(bytes.readUInt32BE(12), 6);
  assert.equal(bytes.toString('latin1', 24), 'twenty bytes of datastrange');
  const { corruptions, leaks } = await checkImage(memory);
  assert.deepEqual([corruptions, leaks], [0, 0]);
});
