/** Writes whose bytes the host copies. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { bitmapStoreOf } from '@strata/bitmap';
import { createFile, DiskError, type HostFile, MemoryDevice, openFile } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { copyFrom } from '../src/copy-range.ts';
import { createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { noise } from './codec/samples.ts';
import { assertSurvives, type GuestChange, runChanges } from './crash-run.ts';
import { nothingBelow, readGuest } from './guest.ts';
import { BELOW, bytesOf, faultsOf, newImage } from './new-image.ts';
import { seeded } from './random.ts';
import { RecordingFile } from './recording.ts';

const CLUSTER = 4096;
const options = { clusterSize: CLUSTER, size: 64 * CLUSTER } as const;

/** A host that holds `bytes`. */
async function holding(bytes: Uint8Array): Promise<MemoryDevice> {
  const host = new MemoryDevice();
  await host.write(bytes, 0);
  return host;
}

test('what was copied reads as its source, whatever was there, and the rest as before', async () => {
  const bytes = noise(20 * CLUSTER);
  const host = await holding(bytes);
  for (const backed of [false, true]) {
    const ranges = [
      [0, CLUSTER],
      [512, CLUSTER - 1024],
      [CLUSTER - 512, 1024],
      [3 * CLUSTER, 7 * CLUSTER],
      [5 * CLUSTER + 512, 9 * CLUSTER],
      [60 * CLUSTER + 512, 4 * CLUSTER - 512],
    ] as const;
    for (const [offset, length] of ranges) {
      const made = await newImage(options, { backed });
      const { image, below } = made;
      const expected = new Uint8Array(image.size).fill(backed ? BELOW : 0);
      const put = (from: number, to: number, at: number): void => expected.set(bytes.subarray(from, to), at);
      for (const at of [0, 7]) {
        assert.ok(await copyFrom(image, { host, at, length }, offset, below));
        put(at, at + length, offset);
        assert.deepEqual(await bytesOf(image), expected, `${offset}+${length}`);
      }
      assert.deepEqual(await faultsOf(made), []);
    }
  }
});

test('where the host cannot copy nothing is linked, and no cluster is lost', async () => {
  const made = await newImage(options);
  const { image, below, file } = made;
  const host = await holding(noise(9 * CLUSTER));
  file.copies = false;
  assert.equal(await copyFrom(image, { host, at: 0, length: 9 * CLUSTER }, CLUSTER, below), false);
  assert.deepEqual(await bytesOf(image), new Uint8Array(image.size));
  assert.deepEqual(await faultsOf(made), []);
});

test('a copy that fails leaves nothing behind', async () => {
  const made = await newImage(options);
  const { image, below, file } = made;
  const host = await holding(noise(9 * CLUSTER));
  file.fault = (kind) => (kind === 'write' ? new DiskError('no-space', 'no') : undefined);
  await assert.rejects(copyFrom(image, { host, at: 0, length: 9 * CLUSTER }, 0, below), { code: 'no-space' });
  file.fault = () => undefined;
  assert.deepEqual(await bytesOf(image), new Uint8Array(image.size));
  assert.deepEqual(await faultsOf(made), []);
});

test('copies are recorded by bitmaps, also those that then cannot be', async () => {
  for (const copies of [true, false]) {
    const memory = new MemoryDevice();
    await createQcow2(memory, options);
    const file = new RecordingFile(memory);
    file.copies = copies;
    const layer = await qcow2Format.open(file);
    const bitmaps = bitmapStoreOf(layer);
    await bitmaps?.add('b', { granularity: CLUSTER });
    const range = { host: await holding(noise(2 * CLUSTER)), at: 0, length: 2 * CLUSTER };
    assert.equal(await layer.copyFrom?.(range, 5 * CLUSTER, nothingBelow(layer.size)), copies);
    const bitmap = await bitmaps?.load('b');
    const ranges = [...(bitmap?.ranges() ?? [])].map(({ offset, length }) => [offset, length]);
    assert.deepEqual(ranges, [[5 * CLUSTER, 2 * CLUSTER]]);
    await layer[Symbol.asyncDispose]();
  }
});

test('copies survive a power cut at any moment', async () => {
  for (const [seed, clusterSize] of [
    [1, 4096],
    [2, 512],
    [3, 1024],
  ] as const) {
    const file = new MemoryDevice();
    await createQcow2(file, { clusterSize, size: 24 * 4096 });
    const random = seeded(seed);
    const kinds = ['copy', 'copy', 'copy', 'write', 'zero', 'discard'] as const;
    const batches = Array.from({ length: 25 }, (): GuestChange[] => {
      if (random.below(5) === 0) return [{ kind: 'flush' }];
      const from = random.below(150);
      const half = from + 1 + random.below(20);
      return [
        { kind: random.pick(kinds), from, to: half },
        { kind: random.pick(kinds), from: half, to: half + 1 + random.below(20) },
      ];
    });
    const run = await runChanges({ bytes: file.bytes(), backed: false }, batches, { seed });
    assert.ok((await assertSurvives(run, seed)) > 100);
  }
});

test('qemu-img finds what was copied clean and equal', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  const data = folder.file('data.raw');
  const size = 3 * 2 ** 20 + 512;
  await using source = await createFile(folder.file('source'));
  await source.write(noise(size), 0);
  for (const shape of [
    { cluster_size: 512, refcount_bits: 1 },
    { cluster_size: 65_536, compat: '0.10' },
    { cluster_size: 65_536, extended_l2: 'on' },
    { cluster_size: 65_536, data_file: data },
    { cluster_size: 65_536, data_file: data, data_file_raw: 'on' },
  ]) {
    await qemuImg.create(path, size, { options: shape });
    await qemuIo(path, ['write -P 5 100k 1M', 'write -z 2M 64k']);
    await using file = await openFile(path, { access: 'write' });
    await using outside = await openFile('data_file' in shape ? data : path, { access: 'write' });
    const openDataFile = async (): Promise<HostFile> => outside;
    const layer = await qcow2Format.open(file, { openDataFile });
    const below = nothingBelow(layer.size);
    const whole = { host: source, at: 0, length: size };
    assert.equal(await layer.copyFrom?.(whole, 0, below), process.platform === 'linux');
    if (process.platform !== 'linux') await layer.write(noise(size), 0, below);
    assert.deepEqual(await readGuest(layer, 0, size, below), Uint8Array.from(await readFile(source.path)));
    await layer[Symbol.asyncDispose]();
    assert.equal((await qemuImg.check(path)).status, 0);
    await qemuImg.compare(path, 'qcow2', source.path, 'raw');
  }
});
