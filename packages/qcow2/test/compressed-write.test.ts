/** Compressed writes: packed, in order, replaced and survived. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { writeCompressed } from '../src/compressed-write.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { zero } from '../src/zero.ts';
import { noise, text } from './codec/samples.ts';
import { assertSurvives, crashEverywhere, randomBatches, runChanges } from './crash-run.ts';
import { nothingBelow, readGuest } from './guest.ts';
import { BELOW, bytesOf, faultsOf, filled, newImage } from './new-image.ts';
import { seeded } from './random.ts';

const CLUSTER = 4096;
const options = { clusterSize: CLUSTER, size: 64 * CLUSTER } as const;

test('clusters are encoded, packed and read back, and those that would not become shorter are plain', async () => {
  for (const compressionType of ['zlib', 'zstd']) {
    const made = await newImage({ ...options, compressionType });
    const { image, below, file } = made;
    const bytes = Buffer.concat([text(3 * CLUSTER), noise(2 * CLUSTER), text(CLUSTER, 9)]);
    await writeCompressed(image, bytes, 2 * CLUSTER, below, {});
    assert.deepEqual(await bytesOf(image, 2 * CLUSTER, bytes.length), Uint8Array.from(bytes));
    const kinds = [];
    for (let cluster = 1; cluster < 9; cluster++)
      kinds.push((await image.reader.map(cluster * CLUSTER, 1)).kind);
    const encoded = ['encoded', 'encoded', 'encoded', 'raw', 'raw', 'encoded'];
    assert.deepEqual(kinds, ['below', ...encoded, 'below']);
    assert.deepEqual(await faultsOf(made), []);
    assert.ok(file.size < 5 * CLUSTER + bytes.length, 'packed');
  }
});

test('what is not whole clusters is refused, but for the end of the disk', async () => {
  const made = await newImage({ ...options, size: 10 * CLUSTER + 1024 });
  const { image, below } = made;
  for (const [offset, length] of [
    [512, CLUSTER],
    [0, 512],
    [0, CLUSTER + 512],
  ] as const)
    await assert.rejects(writeCompressed(image, text(length), offset, below, {}), { code: 'invalid' });
  await writeCompressed(image, text(CLUSTER + 1024), 9 * CLUSTER, below, {});
  assert.deepEqual(await bytesOf(image, 9 * CLUSTER), text(CLUSTER + 1024));
  await writeCompressed(image, noise(1024), 10 * CLUSTER, below, {});
  assert.deepEqual(await bytesOf(image, 10 * CLUSTER), noise(1024));
  assert.deepEqual(await faultsOf(made), []);
});

test('whatever a cluster held before is replaced and let go of', async () => {
  for (const backed of [false, true]) {
    const made = await newImage(options, { backed });
    const { image, below } = made;
    await writeCompressed(image, text(4 * CLUSTER), 0, below, {});
    await image.barrier.run();
    await zero(image, 4 * CLUSTER, 2 * CLUSTER, below, {});
    await zero(image, 6 * CLUSTER, 2 * CLUSTER, below, { allocate: true });
    await image.barrier.run();
    for (const seed of [1, 2, 3]) {
      await writeCompressed(image, text(10 * CLUSTER, seed), 0, below, {});
      await image.barrier.run();
    }
    assert.deepEqual(await bytesOf(image, 0, 10 * CLUSTER), text(10 * CLUSTER, 3));
    const rest = filled(CLUSTER, backed ? BELOW : 0);
    assert.deepEqual(await bytesOf(image, 10 * CLUSTER, CLUSTER), rest);
    assert.deepEqual(await faultsOf(made), []);
  }
});

test('calls that overlap in time make the same file as calls one after another', async () => {
  const contents = async (mode: 'together' | 'in turn'): Promise<Uint8Array> => {
    const memory = new MemoryDevice();
    await createQcow2(memory, { clusterSize: 65_536, size: 2 ** 28, backing: { name: 'b', format: 'raw' } });
    const layer = await qcow2Format.open(memory);
    const below = nothingBelow(layer.size);
    const calls: Promise<void>[] = [];
    for (let i = 0; i < 24; i++) {
      // Long ones and short ones, incompressible ones, and L2 tables that zeros need.
      const bytes = i % 5 === 1 ? noise(65_536, i) : text(65_536 * (1 + (i % 3)), i);
      const call =
        i % 6 === 4
          ? layer.zero(i * 2 ** 23, 65_536, below)
          : layer.writeCompressed?.(bytes, i * 2 ** 23, below);
      assert.ok(call);
      if (mode === 'in turn') await call;
      calls.push(call);
    }
    await Promise.all(calls);
    await layer[Symbol.asyncDispose]();
    return memory.bytes();
  };
  const expected = Buffer.from(await contents('in turn'));
  for (let i = 0; i < 3; i++) assert.ok(expected.equals(await contents('together')));
});

test('the file ends with a sector when it is closed', async () => {
  const memory = new MemoryDevice();
  await createQcow2(memory, options);
  const layer = await qcow2Format.open(memory);
  await layer.writeCompressed?.(text(CLUSTER), 0, nothingBelow(layer.size));
  assert.notEqual(memory.size % 512, 0);
  await layer[Symbol.asyncDispose]();
  assert.equal(memory.size % 512, 0);
});

test('a write that fails leaves nothing behind, and the next one succeeds', async () => {
  const made = await newImage(options);
  const { image, file, below } = made;
  await writeCompressed(image, text(2 * CLUSTER), 0, below, {});
  const { write } = file;
  file.write = () => Promise.reject(new Error('no'));
  const failing = Buffer.concat([text(2 * CLUSTER, 5), noise(CLUSTER)]);
  await assert.rejects(writeCompressed(image, failing, CLUSTER, below, {}), /no/);
  file.write = write;
  assert.deepEqual(
    await bytesOf(image, 0, 3 * CLUSTER),
    Uint8Array.from(Buffer.concat([text(2 * CLUSTER), new Uint8Array(CLUSTER)])),
  );
  await writeCompressed(image, failing, CLUSTER, below, {});
  assert.deepEqual(await bytesOf(image, CLUSTER, 3 * CLUSTER), Uint8Array.from(failing));
  assert.deepEqual(await faultsOf(made), []);
});

test('qemu-img finds what was written clean and equal', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const [path, raw] = [folder.file('image.qcow2'), folder.file('raw')];
  const grid: readonly Omit<CreateQcow2Options, 'size'>[] = [512, 4096, 65_536, 2 ** 21].flatMap(
    (clusterSize) => [
      { clusterSize, version: 2 },
      { clusterSize, version: 3, refcountBits: 1 },
      { clusterSize, version: 3, refcountBits: 64 },
      { clusterSize, version: 3, compressionType: 'zstd' },
    ],
  );
  for (const shape of grid) {
    const size = 5 * 2 ** 20 + 512;
    const memory = new MemoryDevice();
    await createQcow2(memory, { ...shape, size });
    const layer = await qcow2Format.open(memory);
    const bytes = Buffer.concat([text(2 ** 21), noise(2 ** 21), text(2 ** 20 + 512, 3)]);
    const below = nothingBelow(size);
    const step = Math.max(2 ** 18, shape.clusterSize ?? 0);
    const calls = [];
    for (let at = 0; at < size; at += step)
      calls.push(layer.writeCompressed?.(bytes.subarray(at, at + step), at, below));
    await Promise.all(calls);
    assert.ok(Buffer.from(await readGuest(layer, 0, size)).equals(bytes));
    await layer[Symbol.asyncDispose]();
    await writeFile(path, memory.bytes());
    await writeFile(raw, bytes);
    const { status, report, stderr } = await qemuImg.check(path);
    assert.equal(status, 0, `${JSON.stringify(shape)}: ${stderr}`);
    assert.ok(report['compressed-clusters'], JSON.stringify(shape));
    await qemuImg.compare(path, 'qcow2', raw, 'raw');
  }
});

const SHAPES: readonly (Omit<CreateQcow2Options, 'size'> & { readonly clusters: number })[] = [
  { version: 3, clusterSize: 4096, clusters: 12 },
  { version: 2, clusterSize: 4096, clusters: 12 },
  { version: 3, clusterSize: 512, clusters: 90, refcountBits: 2 },
  { version: 3, clusterSize: 1024, clusters: 40, compressionType: 'zstd' },
];

for (const backed of [false, true])
  test(`compressed writes to an ${backed ? 'overlay' : 'image'} survive a power cut at any moment`, async () => {
    for (const [index, { clusters, ...shape }] of SHAPES.entries())
      for (let round = 0; round < 2; round++) {
        const seed = 3000 + index * 100 + round + (backed ? 50 : 0);
        const clusterSize = shape.clusterSize ?? 65_536;
        const memory = new MemoryDevice();
        const backing = backed ? { backing: { name: 'below', format: 'raw' } } : {};
        await createQcow2(memory, { ...shape, size: clusters * clusterSize, ...backing });
        const sectors = (clusters * clusterSize) / 512;
        const batches = randomBatches(seeded(seed), sectors, 25, clusterSize / 512, { compress: true });
        const image = { discardHost: round === 1 };
        const run = await runChanges({ bytes: memory.bytes(), backed }, batches, { seed, image });
        await assertSurvives(run, seed);
      }
  });

test('the crash states show an engine that links streams before their data is durable', async () => {
  const memory = new MemoryDevice();
  await createQcow2(memory, options);
  const batches = randomBatches(seeded(77), 512, 25, 8, { compress: true });
  const run = await runChanges({ bytes: memory.bytes(), backed: false }, batches, {
    seed: 77,
    sabotage: (_, file) => {
      file.ignoresFlushes = true;
    },
  });
  const { faults } = await crashEverywhere(run, 77, 2000);
  assert.ok(faults.length > 0);
});
