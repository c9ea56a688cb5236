import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { readHeader } from '../src/header.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { BELOW, bytesOf, faultsOf, filled, newImage } from './new-image.ts';
import { drive } from './recording.ts';

const K64 = 65_536;

/** The guest bytes that requests to the file carried since the last time, one number a request. */
function dataWrites(file: { changes: { bytes: Uint8Array | undefined; length: number; offset: number }[] }) {
  const writes = file.changes.filter(({ offset }) => offset >= 4 * K64).map(({ length }) => length);
  file.changes.length = 0;
  return writes;
}

describe('a write in place', () => {
  test('is one request of its own length, and touches no table', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(3 * K64, 1), 0, below);
    await image.barrier.run();
    dataWrites(file);
    await write(image, filled(100_000, 2), 5000, below);
    assert.deepEqual(dataWrites(file), [100_000]);
    assert.equal(image.barrier.isNeeded, false);
  });

  test('runs beside another one in the same cluster', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(K64, 1), 0, below);
    file.immediate = false;
    const writes = [0, 1, 2, 3].map((part) => write(image, filled(512, part), part * 512, below));
    await new Promise<void>((resolve) => setImmediate(resolve));
    assert.equal(file.waiting, 4);
    await drive(file, Promise.all(writes), () => 0);
  });

  test('waits for one that makes the cluster, then does not wait for its like', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(1, 1), 3 * K64, below);
    file.immediate = false;
    const writes = [0, 1, 2, 3].map((part) => write(image, filled(512, part + 1), part * 512, below));
    for (let i = 0; i < 5; i++) await new Promise<void>((resolve) => setImmediate(resolve));
    assert.equal(file.waiting, 1);
    file.endOne(0);
    for (let i = 0; i < 5; i++) await new Promise<void>((resolve) => setImmediate(resolve));
    assert.equal(file.waiting, 3);
    await drive(file, Promise.all(writes), () => 0);
    assert.deepEqual(
      [0, 512, 1024, 1536].map((at) => at / 512 + 1),
      [1, 2, 3, 4],
    );
    const seen = await bytesOf(image, 0, 2048);
    assert.deepEqual([seen[0], seen[512], seen[1024], seen[1536]], [1, 2, 3, 4]);
  });
});

describe('a write into new clusters', () => {
  test('of many whole ones is one request', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 }, { backed: true });
    await write(image, filled(8 * K64, 1), K64, below);
    assert.deepEqual(dataWrites(file), [8 * K64]);
  });

  test('is only as long as the data where nothing is around it', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(4096, 1), 8192, below);
    assert.deepEqual(dataWrites(file), [4096]);
    assert.deepEqual(await faultsOf({ image, file }), []);
  });

  test('brings up what was around it in the same request', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 }, { backed: true });
    await write(image, filled(4096, 1), 8192, below);
    assert.deepEqual(dataWrites(file), [K64]);
    const expected = filled(K64, BELOW);
    expected.fill(1, 8192, 12_288);
    assert.deepEqual(await bytesOf(image, 0, K64), expected);
  });

  test('does not read what is below where it says that it is zeros', async () => {
    const { image, file } = await newImage({ size: 2 ** 20 }, { backed: true });
    const below = new MemoryDevice(2 ** 21);
    below.tryRead = () => assert.fail('read');
    await write(image, filled(4096, 1), 8192, below);
    assert.deepEqual(dataWrites(file), [4096]);
  });

  test('of 2 MiB brings up its edges in parts', async () => {
    const size = 2 ** 23;
    const { image, file, below } = await newImage({ clusterSize: 2 ** 21, size }, { backed: true });
    await write(image, filled(2 ** 21, 1), 2 ** 20 + 512, below);
    const expected = filled(size, BELOW);
    expected.fill(1, 2 ** 20 + 512, 2 ** 20 + 512 + 2 ** 21);
    assert.ok(Buffer.from(await bytesOf(image)).equals(expected));
    assert.ok(file.changes.every(({ length }) => length <= 2 ** 21));
    assert.deepEqual(await faultsOf({ image, file }), []);
  });

  test('in the last, cut one leaves zeros past the end of the disk', async () => {
    const size = K64 + 512;
    const { image, below } = await newImage({ size }, { backed: true });
    // A used cluster full of other bytes is let go first, and comes back for the last guest cluster.
    await write(image, filled(K64, 9), 0, below);
    await image.barrier.run();
    await zero(image, 0, K64, below, {});
    await image.barrier.run();
    await write(image, filled(100, 1), K64 + 10, below);
    const mapping = await image.reader.map(K64, 1);
    assert.ok(mapping.kind === 'raw');
    const whole = new Uint8Array(K64);
    await mapping.device.read(whole, mapping.at);
    const expected = filled(512, BELOW);
    expected.fill(1, 10, 110);
    assert.deepEqual(whole.subarray(0, 512), expected);
    assert.ok(whole.subarray(512).every((byte) => byte === 0));
  });

  test('over what is reserved for zeros uses that place', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 });
    await zero(image, 0, K64, below, { allocate: true });
    const reserved = await image.reader.map(0, 1);
    await write(image, filled(100, 1), 50, below);
    const data = await image.reader.map(0, 1);
    assert.ok(reserved.kind === 'zero' && data.kind === 'raw');
    assert.equal(data.at, reserved.at);
    const expected = new Uint8Array(K64);
    expected.fill(1, 50, 150);
    assert.deepEqual(await bytesOf(image, 0, K64), expected);
    assert.deepEqual(await faultsOf({ image, file }), []);
  });
});

describe('before the first change', () => {
  test('autoclear bits are cleared, by one durable write of its own', async () => {
    const { file, memory } = await newImage({ size: 2 ** 20 });
    await memory.write(Uint8Array.of(0x80, 0, 0, 0, 0, 0, 0, 5), 88);
    const { reopened } = await import('./new-image.ts');
    const again = await reopened(memory);
    await write(again.image, filled(10, 1), 0, memory);
    const [first, second] = again.file.changes;
    assert.deepEqual([first?.offset, first?.length], [72, 24]);
    assert.ok(again.file.flushes.some(({ ended }) => ended < (second?.began ?? 0)));
    const bits = new Uint8Array(24);
    await memory.read(bits, 72);
    assert.deepEqual(bits, new Uint8Array(24));
    assert.equal(file.changes.length, 0);
  });
});

describe('in a damaged image', () => {
  test('a write never lands on a structure', async () => {
    for (const [cluster, name] of [
      [1, 'refcount table'],
      [2, 'refcount block'],
      [3, 'active L1 table'],
      [4, 'active L2 table'],
    ] as const) {
      const { image, file, below } = await newImage({ size: 2 ** 20 });
      await write(image, filled(K64, 1), 0, below);
      const table = await image.l2.get(0);
      table.view.setUint32(0, 0x8000_0000);
      table.view.setUint32(4, cluster * K64);
      file.changes.length = 0;
      const message = `Preventing invalid write on metadata (overlaps with ${name})`;
      await assert.rejects(write(image, filled(512, 2), 0, below), { code: 'corrupt', message });
      // Nothing but the mark in the header.
      assert.deepEqual(
        file.changes.map(({ offset, length }) => [offset, length]),
        [[72, 8]],
      );
    }
  });

  test('a write into a cluster that is in use with refcount 0 is refused', async () => {
    const { image, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(K64, 1), 0, below);
    const table = await image.l2.get(0);
    table.view.setUint32(0, 0);
    table.view.setUint32(4, 9 * K64);
    await assert.rejects(write(image, filled(512, 2), 0, below), {
      code: 'corrupt',
      message: /refcount of 0 .* 0x90000/,
    });
  });

  test('a corrupt entry fails the write, which gives back what it took, and all that follow', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(K64, 1), 0, below);
    const table = await image.l2.get(0);
    table.view.setUint32(12, 0x1200);
    const used = image.refcounts.peek(6);
    await assert.rejects(write(image, filled(4 * K64, 2), 0, below), {
      code: 'corrupt',
      message: /0x1200 unaligned/,
    });
    assert.equal(image.refcounts.peek(6), used);
    table.view.setUint32(12, 0);
    await assert.rejects(write(image, filled(4 * K64, 3), 0, below), { message: /marked as corrupt/ });
    assert.equal((await readHeader(file)).incompatible, 2n);
  });

  test('the exclusive bit is set again where the refcount says that the cluster is', async () => {
    const { image, file, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(K64, 1), 0, below);
    await image.barrier.run();
    const table = await image.l2.get(0);
    const high = table.view.getUint32(0);
    table.view.setUint32(0, high - 0x8000_0000);
    const before = await image.reader.map(0, 1);
    await write(image, filled(512, 2), 0, below);
    assert.deepEqual(await image.reader.map(0, 1), before);
    assert.equal(table.view.getUint32(0), high);
    assert.deepEqual(await faultsOf({ image, file }), []);
  });
});
