import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { type BlockSource, copyDifferences, isDiskError, MemoryDevice } from '@strata/block';
import { layerDevice, qemuImg, randomFrom, requires, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { backingOf, readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { readGuest } from './guest.ts';
import { seeded } from './random.ts';
import { drive, RecordingFile } from './recording.ts';

const size = 48 << 10;

async function disk(seed: number): Promise<MemoryDevice> {
  const memory = new MemoryDevice(size);
  const random = randomFrom(seed);
  // The two differ in some clusters, agree in others, and each has zeros where the other has none.
  const common = randomFrom(1).bytes(size);
  await memory.write(common, 0);
  for (let at = 0; at < size; at += 4096) {
    const choice = random.upTo(3);
    if (choice === 0) await memory.zero(at, 4096);
    if (choice === 1) await memory.write(random.bytes(1000), at + 700);
  }
  return memory;
}

const shapes: readonly CreateQcow2Options[] = [
  { size, clusterSize: 4096 },
  { size, clusterSize: 4096, version: 2 },
  { size, clusterSize: 512, refcountBits: 1 },
  { size, clusterSize: 65_536 },
];

for (const shape of shapes) {
  const { clusterSize, version = 3 } = shape;
  test(`a rebase can be cut off at any moment, and the guest sees what it saw: version ${version}, clusters of ${clusterSize}`, async () => {
    const [old, now] = [await disk(2), await disk(3)];
    const memory = new MemoryDevice();
    await createQcow2(memory, { ...shape, backing: { name: 'old', format: 'raw' } });
    {
      const layer = await qcow2Format.open(memory);
      await layer.write(randomFrom(4).bytes(5000), 9000, old);
      await layer[Symbol.asyncDispose]();
    }
    const start = memory.bytes().slice();
    const file = new RecordingFile(memory);
    const layer = await qcow2Format.open(file);
    const before = await readGuest(layer, 0, size, old);
    file.immediate = false;
    const target = layerDevice(layer, old);
    const work = async (): Promise<void> => {
      const select = async (offset: number, limit: number) => {
        const { kind, length } = await layer.map(offset, limit);
        return { length, wanted: kind === 'below' };
      };
      await copyDifferences(old, now, target, { bufferSize: 8192, select });
      await layer.flush();
      await layer.changeBacking?.({ name: `${'n'.repeat(60)}ew`, format: 'qcow2' });
      await layer[Symbol.asyncDispose]();
    };
    const random = seeded(7);
    await drive(file, work(), (count) => random.below(count));
    const names = new Set<string | undefined>();
    let states = 0;
    for (const window of windowsOf(file)) {
      for (const kept of selections(window, random, () => false)) {
        const after = new MemoryDevice();
        await after.write(contentOf(start, window, kept), 0);
        const report = await checkImage(after);
        assert.equal(report.corruptions + report.checkErrors, 0);
        const name = backingOf(await readHeader(after))?.name;
        names.add(name);
        const below: BlockSource = name === 'old' ? old : now;
        const seen = await readGuest(await qcow2Format.openSource(after), 0, size, below);
        assert.ok(Buffer.compare(seen, before) === 0, `over ${name} the guest sees other bytes`);
        states++;
      }
    }
    assert.equal(names.size, 2);
    assert.ok(states > 20, `${states} states`);
  });
}

test('a name that cannot be recorded changes nothing', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size, clusterSize: 512, backing: { name: 'old', format: 'raw' } });
  const before = file.bytes().slice();
  const layer = await qcow2Format.open(file);
  for (const [name, code] of [
    ['', 'invalid'],
    ['x'.repeat(1024), 'invalid'],
    ['x'.repeat(600), 'no-space'],
  ] as const) {
    await assert.rejects(
      async () => layer.changeBacking?.({ name, format: 'raw' }),
      (error) => isDiskError(error, code),
    );
  }
  await layer[Symbol.asyncDispose]();
  assert.ok(Buffer.compare(file.bytes(), before) === 0);
});

test(
  'what QEMU records in an image is kept, and what it finds is the new name',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const file = new MemoryDevice();
    await createQcow2(file, { size, lazyRefcounts: true });
    const layer = await qcow2Format.open(file);
    await layer.changeBacking?.({ name: 'dir/new.raw', format: 'raw' });
    await layer[Symbol.asyncDispose]();
    const path = folder.file('image.qcow2');
    await writeFile(path, file.bytes());
    const info = JSON.parse(await qemuImg.ok('info', '--output=json', path));
    assert.equal(info['backing-filename'], 'dir/new.raw');
    assert.equal(info['backing-filename-format'], 'raw');
    assert.equal(info['format-specific'].data['lazy-refcounts'], true);
  },
);
