import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkedSource, joinedSources, MemoryDevice, sourceWindow, walkExtents } from '@strata/block';
import { assertSameBytes, randomFrom } from '@strata/testkit';

async function disks(...sizes: readonly number[]): Promise<MemoryDevice[]> {
  const made: MemoryDevice[] = [];
  for (const [index, size] of sizes.entries()) {
    const disk = new MemoryDevice(size);
    if (index % 2 === 0) await disk.write(randomFrom(index).bytes(size), 0);
    made.push(disk);
  }
  return made;
}

test('a read takes its bytes from every disk that it touches', async () => {
  const parts = await disks(1000, 0, 50_000, 7, 3000);
  const joined = joinedSources(parts);
  const bytes = Buffer.concat(parts.map((part) => part.bytes()));
  assert.equal(joined.size, bytes.length);
  const random = randomFrom(5);
  for (let i = 0; i < 200; i++) {
    const at = random.upTo(bytes.length - 1);
    const into = new Uint8Array(1 + random.upTo(bytes.length - at - 1));
    await joined.read(into, at);
    assertSameBytes(into, bytes.subarray(at, at + into.length));
    into.fill(0xee);
    assert.ok(joined.tryRead(into, at));
    assertSameBytes(into, bytes.subarray(at, at + into.length));
  }
  await assert.rejects(joined.read(new Uint8Array(2), bytes.length - 1), RangeError);
});

test('extents lie where the disks lie, and end where a disk ends', async () => {
  const joined = joinedSources(await disks(65_536, 131_072, 65_536));
  const extents: unknown[] = [];
  await walkExtents(joined, 0, joined.size, ({ offset, length, kind }) => {
    extents.push([offset, length, kind]);
    return true;
  });
  assert.deepEqual(extents, [
    [0, 65_536, 'data'],
    [65_536, 131_072, 'zero'],
    [196_608, 65_536, 'data'],
  ]);
  assert.deepEqual(joined.tryExtentAt(70_000, 100), await joined.extentAt(70_000, 100));
});

test('no disks at all are an empty disk', () => {
  assert.equal(joinedSources([]).size, 0);
});

test('where bytes lie is where the disk has them that they are of', async () => {
  const parts = await disks(1000, 50_000);
  const [, second] = parts as [MemoryDevice, MemoryDevice];
  const placed = Object.assign(checkedSource(second), {
    placeAt: async (at: number, length: number) => ({ host: second, at, length }),
  });
  const joined = joinedSources([parts[0] as MemoryDevice, placed]);
  assert.equal(await joined.placeAt?.(10, 100), undefined);
  assert.deepEqual(await joined.placeAt?.(1010, 100), { host: second, at: 10, length: 100 });
  assert.deepEqual(await joined.placeAt?.(50_990, 100), { host: second, at: 49_990, length: 10 });
  const moved = sourceWindow(joined, 1005, 100);
  assert.deepEqual(await moved.placeAt?.(5, 95), { host: second, at: 10, length: 95 });
  await assert.rejects(async () => joined.placeAt?.(51_000, 1), RangeError);
});
