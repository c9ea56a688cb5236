/** Of a disk nothing is shown but what changed, what changed is never a hole, and what is read is counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirtyBitmap } from '@strata/bitmap';
import { type BlockSource, type Extent, MemoryDevice, walkExtents } from '@strata/block';
import { ChangedOnly } from '../src/changed-only.ts';

const size = 1 << 20;

async function disk(): Promise<MemoryDevice> {
  const memory = new MemoryDevice(size);
  await memory.write(new Uint8Array(131_072).fill(7), 131_072);
  return memory;
}

async function extentsOf(source: BlockSource): Promise<readonly string[]> {
  const found: string[] = [];
  await walkExtents(source, 0, size, ({ offset, length, kind, depth }) => {
    found.push(`${offset}+${length} ${kind} ${depth}`);
    return true;
  });
  return found;
}

test('extents end where changes do, and holes of the disk are zeros that it holds', async () => {
  const changed = new DirtyBitmap(size, 4096);
  changed.set(126_976, 8192);
  changed.set(200_704, 4096);
  const expected = [
    '0+126976 hole 0',
    '126976+4096 zero 1',
    '131072+4096 data 1',
    '135168+65536 hole 0',
    '200704+4096 data 1',
    '204800+843776 hole 0',
  ];
  const memory = await disk();
  assert.deepEqual(await extentsOf(new ChangedOnly(memory, changed)), expected);
  const asHoles = (extent: Extent): Extent =>
    extent.kind === 'zero' ? { ...extent, kind: 'hole', depth: 0 } : extent;
  const sparse: BlockSource = {
    size,
    tryRead: () => false,
    read: (into, offset) => memory.read(into, offset),
    tryExtentAt: () => undefined,
    extentAt: async (offset, limit) => asHoles(memory.tryExtentAt(offset, limit)),
    [Symbol.asyncDispose]: async () => undefined,
  };
  assert.deepEqual(await extentsOf(new ChangedOnly(sparse, changed)), expected);
});

test('bytes read count, and those that had not changed count as such', async () => {
  const changed = new DirtyBitmap(size, 4096);
  changed.set(8192, 4096);
  const source = new ChangedOnly(await disk(), changed);
  await source.read(new Uint8Array(4096), 8192);
  assert.deepEqual(source.counts, { read: 4096, beyond: 0 });
  assert.ok(source.tryRead(new Uint8Array(16_384), 4096));
  assert.deepEqual(source.counts, { read: 20_480, beyond: 12_288 });
});
