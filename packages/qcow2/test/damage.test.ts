import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError, MemoryDevice } from '@strata/block';
import { qemuImg, requires, run, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { damage, isDamageOf } from '../src/damage.ts';
import { geometryOf } from '../src/geometry.ts';
import { readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import { repairImage } from '../src/repair.ts';
import { openHost } from './host.ts';

const CLUSTER = 65_536;

test('damage belongs to one image, also among images of one shape', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size: CLUSTER });
  const header = await readHeader(file);
  const [one, other] = [geometryOf(header), geometryOf(header)];
  const error = damage(one, 'x', 0, 'y');
  assert.deepEqual([isDamageOf(error, one), isDamageOf(error, other)], [true, false]);
  assert.ok(!isDamageOf(new DiskError('corrupt', 'x'), one));
});

/** An image with data in its first two clusters; the first L2 entry is `entry` then. */
async function damaged(entry: bigint, version: 2 | 3 = 3): Promise<MemoryDevice> {
  const file = new MemoryDevice();
  await createQcow2(file, { size: 16 * CLUSTER, version });
  const layer = await qcow2Format.open(file);
  const below = new MemoryDevice(16 * CLUSTER);
  await layer.write(new Uint8Array(2 * CLUSTER).fill(7), 0, below);
  await layer[Symbol.asyncDispose]();
  const word = Buffer.alloc(8);
  await file.read(word, (await readHeader(file)).l1At);
  const l2At = Number(word.readBigUInt64BE(0) & 0x00ff_ffff_ffff_fe00n);
  word.writeBigUInt64BE(entry);
  await file.write(word, l2At);
  return file;
}

const INVALID = [
  ['leads to the refcount table', (1n << 63n) | 0x10000n],
  ['is not aligned', (1n << 63n) | 0x50200n],
] as const;

test('a write that meets damage fails, and marks the image: no more changes, and no writer after it', async () => {
  const below = new MemoryDevice(16 * CLUSTER);
  for (const [title, entry] of INVALID) {
    const file = await damaged(entry);
    const layer = await qcow2Format.open(file);
    await layer.write(new Uint8Array(CLUSTER).fill(8), 5 * CLUSTER, below);
    await assert.rejects(layer.write(new Uint8Array(1000), 0, below), { code: 'corrupt' }, title);
    assert.equal((await readHeader(file)).incompatible, 2n, title);
    const before = file.bytes();
    for (const call of [
      () => layer.write(new Uint8Array(10), CLUSTER, below),
      () => layer.zero(CLUSTER, CLUSTER, below),
      () => layer.discard(CLUSTER, CLUSTER),
      () => layer.flush(),
    ]) {
      await assert.rejects(call(), { code: 'corrupt', message: /marked as corrupt/ }, title);
    }
    await layer[Symbol.asyncDispose]();
    assert.ok(Buffer.from(before).equals(file.bytes()), `${title}: nothing was written any more`);
    await assert.rejects(qcow2Format.open(file), {
      code: 'corrupt',
      message: 'qcow2: Image is corrupt; cannot be opened read/write',
    });
    const source = await qcow2Format.openSource(file);
    assert.equal((await source.map(CLUSTER, CLUSTER)).kind, 'raw');
  }
});

test('version 2 cannot be marked, and takes no more changes either', async () => {
  const below = new MemoryDevice(16 * CLUSTER);
  const file = await damaged((1n << 63n) | 0x10000n, 2);
  const layer = await qcow2Format.open(file);
  await assert.rejects(layer.write(new Uint8Array(1000), 0, below), { code: 'corrupt' });
  await assert.rejects(layer.write(new Uint8Array(1000), 5 * CLUSTER, below), { code: 'corrupt' });
  await layer[Symbol.asyncDispose]();
  assert.equal((await readHeader(file)).version, 2);
});

test('damage below does not mark the image above', async () => {
  const below = new MemoryDevice(16 * CLUSTER);
  const broken = new DiskError('corrupt', 'broken below');
  below.read = () => Promise.reject(broken);
  below.tryRead = () => false;
  const file = new MemoryDevice();
  await createQcow2(file, { size: 16 * CLUSTER, backing: { name: 'b', format: 'raw' } });
  const layer = await qcow2Format.open(file);
  below.tryExtentAt = (offset, limit) => ({ offset, length: limit, kind: 'data', depth: 1 });
  await assert.rejects(layer.write(new Uint8Array(10), 0, below), broken);
  assert.equal((await readHeader(file)).incompatible, 0n);
  await layer.write(new Uint8Array(CLUSTER), CLUSTER, below);
  await layer[Symbol.asyncDispose]();
});

test('QEMU sees the mark, and a repair takes it away', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await using file = await openHost(path);
  // The first entry leads to the refcount table: its second use can be counted, and then nothing is wrong.
  await file.write((await damaged((1n << 63n) | 0x10000n)).bytes(), 0);
  const layer = await qcow2Format.open(file);
  const below = new MemoryDevice(16 * CLUSTER);
  await assert.rejects(layer.write(new Uint8Array(1000), 0, below), { code: 'corrupt' });
  await layer[Symbol.asyncDispose]();
  assert.match((await run('qemu-img', ['info', path])).stdout, /corrupt: true/);
  await assert.rejects(qemuImg.ok('snapshot', '-c', 'x', path), /Image is corrupt/);
  await repairImage(file, 'all');
  assert.match((await run('qemu-img', ['info', path])).stdout, /corrupt: false/);
});
