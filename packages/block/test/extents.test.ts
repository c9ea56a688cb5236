import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Extent, MemoryDevice, readsAsZeros, walkExtents } from '@strata/block';

/** A disk of which only the extents are of interest: one extent for each byte of `kinds`. */
async function diskOf(kinds: string, answersAtOnce: boolean) {
  const disk = new MemoryDevice(kinds.length);
  const kindAt = { d: 'data', z: 'zero', h: 'hole' } as const;
  const at = (offset: number): Extent => {
    const kind = kindAt[kinds[offset] as keyof typeof kindAt];
    return { offset, length: 1, kind, depth: kind === 'hole' ? 0 : 1 };
  };
  return Object.assign(disk, {
    tryExtentAt: (offset: number) => (answersAtOnce ? at(offset) : undefined),
    extentAt: async (offset: number) => at(offset),
  });
}

async function walked(kinds: string, answersAtOnce: boolean, offset = 0, length = kinds.length) {
  const found: string[] = [];
  await walkExtents(await diskOf(kinds, answersAtOnce), offset, length, (extent) => {
    found.push(`${extent.offset}+${extent.length} ${extent.kind}`);
    return true;
  });
  return found;
}

for (const answersAtOnce of [true, false]) {
  test(`neighbours alike are one extent (answers ${answersAtOnce ? 'at once' : 'later'})`, async () => {
    assert.deepEqual(await walked('ddzzzhdd', answersAtOnce), [
      '0+2 data',
      '2+3 zero',
      '5+1 hole',
      '6+2 data',
    ]);
    assert.deepEqual(await walked('ddzzzhdd', answersAtOnce, 1, 3), ['1+1 data', '2+2 zero']);
    assert.deepEqual(await walked('ddd', answersAtOnce, 1, 0), []);
  });
}

test('neighbours of one kind at different depths stay apart', async () => {
  const disk = new MemoryDevice(4);
  const deeper = Object.assign(disk, {
    tryExtentAt: (offset: number): Extent => ({ offset, length: 2, kind: 'data', depth: 1 + offset / 2 }),
  }) as unknown as MemoryDevice;
  const depths: number[] = [];
  await walkExtents(deeper, 0, 4, (extent) => {
    depths.push(extent.depth);
    return true;
  });
  assert.deepEqual(depths, [1, 2]);
});

test('the walk ends when the visitor says so', async () => {
  let visits = 0;
  await walkExtents(await diskOf('dzdzdz', true), 0, 6, () => {
    visits++;
    return false;
  });
  assert.equal(visits, 1);
});

test('a long walk lets the event loop turn', async () => {
  const disk = await diskOf('dz'.repeat(20_000), true);
  let turned = false;
  setImmediate(() => {
    turned = true;
  });
  await walkExtents(disk, 0, 40_000, () => true);
  assert.equal(turned, true);
});

test('zeros and holes read as zeros, data does not count as such', () => {
  const at = { offset: 0, length: 1, depth: 1 };
  for (const kind of ['zero', 'zero-allocated'] as const) assert.equal(readsAsZeros({ ...at, kind }), true);
  assert.equal(readsAsZeros({ ...at, kind: 'hole', depth: 0 }), true);
  for (const kind of ['data', 'compressed'] as const) assert.equal(readsAsZeros({ ...at, kind }), false);
});
