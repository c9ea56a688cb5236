import assert from 'node:assert/strict';
import { test } from 'node:test';
import { geometryOf } from '../src/geometry.ts';
import { type CountsInUse, Renewal } from '../src/renewal.ts';

const geometry = geometryOf({ version: 3, clusterBits: 9, refcountOrder: 4, incompatible: 0n });

/** Clusters 0 to `used` - 1 have one use each; no block holds them. */
const counts = (used: number): CountsInUse => ({
  regions: Math.ceil(used / geometry.refcountBlockEntries),
  table: { first: 1, count: 1 },
  guard: () => undefined,
  isTaken: (cluster) => cluster === used + 1,
  region: async (region) => ({
    uses: (index) => (region * geometry.refcountBlockEntries + index < used ? 1 : 0),
    block: undefined,
  }),
});

test('a place is the lowest that has no use, gets none and is not taken', async () => {
  const renewal = new Renewal(geometry, counts(10));
  assert.equal(await renewal.allocate(1), 10 * 512);
  assert.equal(await renewal.allocate(3), 12 * 512);
  assert.equal(await renewal.allocate(1), 15 * 512);
});

test('uses that there cannot be are refused before anything is written', async () => {
  const over = new Renewal(geometry, counts(10));
  over.add(5, 65_535);
  await assert.rejects(over.judge(), { code: 'invalid' });
  const under = new Renewal(geometry, counts(10));
  under.remove(5, 2);
  await assert.rejects(under.judge(), { code: 'corrupt' });
  const unknown = new Renewal(geometry, counts(10));
  unknown.add(50);
  await assert.rejects(unknown.judge(), { code: 'corrupt' });
});

test('the table leads to a block for every region that changed, and counts itself and them', async () => {
  const renewal = new Renewal(geometry, counts(1000));
  renewal.touch(0);
  renewal.touch(700);
  const table = await renewal.placeRefcounts();
  let blocks = 0;
  for await (const { at } of renewal.refcountWrites(table)) {
    blocks++;
    assert.equal(await renewal.uses(at / 512), 1);
  }
  // Regions 0 and 2 were touched, region 3 counts the new structures; and the table.
  assert.equal(blocks, 4);
  assert.equal(await renewal.uses(1), 0, 'the old table');
});
