import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Piece, planWrite } from '../src/pieces.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { filled, newImage } from './new-image.ts';

const CLUSTER = 512;
const TABLE = 64 * CLUSTER;

async function planned(...[image, from, to]: [Parameters<typeof planWrite>[0], number, number]) {
  const pieces: Piece[] = [];
  await planWrite(image, from, to, pieces);
  return pieces.map(({ cluster, count, state }) => `${state} ${cluster}+${count}`);
}

test('a range is cut where the state of its clusters changes', async () => {
  const { image, below } = await newImage({ size: 4 * TABLE, clusterSize: CLUSTER });
  await write(image, filled(3 * CLUSTER, 1), 2 * CLUSTER, below);
  await zero(image, 5 * CLUSTER, 2 * CLUSTER, below, { allocate: true });
  await zero(image, 8 * CLUSTER, CLUSTER, below, {});
  assert.deepEqual(await planned(image, 0, 10 * CLUSTER), [
    'new 0+2',
    'in place 2+3',
    'reserved 5+2',
    'new 7+3',
  ]);
});

test('a range is cut where the file is not in a row', async () => {
  const { image, below } = await newImage({ size: 4 * TABLE, clusterSize: CLUSTER });
  for (const cluster of [3, 1, 2]) await write(image, filled(CLUSTER, 1), cluster * CLUSTER, below);
  assert.deepEqual(await planned(image, CLUSTER, 4 * CLUSTER), ['in place 1+2', 'in place 3+1']);
});

test('a range is cut at the end of an L2 table, and touches the clusters at its ends as a whole', async () => {
  const { image } = await newImage({ size: 4 * TABLE, clusterSize: CLUSTER });
  assert.deepEqual(await planned(image, TABLE - 1, TABLE + 1), ['new 63+1', 'new 64+1']);
});

test('what was found is known also when the rest fails', async () => {
  const { image, below } = await newImage({ size: 4 * TABLE, clusterSize: CLUSTER });
  await write(image, filled(CLUSTER, 1), 5 * CLUSTER, below);
  (await image.l2.get(0)).view.setUint32(5 * 8 + 4, 3);
  (await image.l2.get(0)).view.setUint32(5 * 8, 0x00e0_0000);
  const pieces: Piece[] = [];
  await assert.rejects(planWrite(image, 0, 10 * CLUSTER, pieces), { code: 'corrupt' });
  assert.deepEqual(
    pieces.map(({ count }) => count),
    [5],
  );
});
