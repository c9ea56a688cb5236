/** Power cuts while snapshots are created, applied and deleted: the image is as before or as after, without a leak. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../src/snapshot-changes.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { type DiskState, faultsIn, stateOf } from './disk-states.ts';
import { apply, nothingBelow, randomChange } from './guest.ts';
import { type Random, seeded } from './random.ts';
import { RecordingFile } from './recording.ts';

const NOW = { dateSeconds: 1_700_000_000, dateNanoseconds: 0 };

async function change(memory: MemoryDevice, random: Random, clusterSize: number): Promise<void> {
  const layer = await qcow2Format.open(memory);
  const below = nothingBelow(layer.size);
  for (let i = 0; i < 6; i++) await apply(layer, randomChange(random, layer.size, clusterSize), below);
  await layer[Symbol.asyncDispose]();
}

/** Does something and looks at all that a power cut may leave of it. */
async function cutEverywhere(
  memory: MemoryDevice,
  act: (file: RecordingFile) => Promise<void>,
  random: Random,
  title: string,
): Promise<number> {
  const start = memory.bytes();
  const before = await stateOf(start);
  const file = new RecordingFile(memory);
  await act(file);
  const after = await stateOf(memory.bytes());
  let states = 0;
  for (const window of windowsOf(file)) {
    for (const kept of selections(window, random, () => random.below(2) === 0)) {
      const bytes = contentOf(start, window, kept);
      states++;
      const told = `${title}, window ${window.from}`;
      assert.deepEqual(await faultsIn(bytes, { leaks: true }), [], told);
      assert.ok(isOneOf(await stateOf(bytes), [before, after]), `${told}: a mix`);
    }
  }
  return states;
}

function isOneOf(state: DiskState, known: readonly DiskState[]): boolean {
  return known.some(
    ({ disk, snapshots }) => disk === state.disk && snapshots.join('\n') === state.snapshots.join('\n'),
  );
}

const SHAPES: readonly (CreateQcow2Options & { readonly clusterSize: number })[] = [
  { version: 3, clusterSize: 4096, size: 20 * 4096 },
  { version: 2, clusterSize: 4096, size: 20 * 4096 },
  { version: 3, clusterSize: 512, size: 150 * 512, refcountBits: 64 },
  { version: 3, clusterSize: 512, size: 150 * 512, refcountBits: 2 },
];

for (const shape of SHAPES) {
  const title = JSON.stringify(shape);
  test(`snapshots survive a power cut at any moment: ${title}`, async () => {
    const random = seeded(shape.size + (shape.refcountBits ?? 0));
    const memory = new MemoryDevice();
    await createQcow2(memory, shape);
    await change(memory, random, shape.clusterSize);
    let states = 0;
    const cut = async (what: string, act: (file: RecordingFile) => Promise<void>): Promise<void> => {
      states += await cutEverywhere(memory, act, random, `${title} ${what}`);
      await change(memory, random, shape.clusterSize);
    };
    await cut('create one', (file) => createSnapshot(file, { name: 'one', ...NOW }));
    await cut('create two', (file) => createSnapshot(file, { name: 'two', ...NOW }));
    await cut('apply one', (file) => applySnapshot(file, { idOrName: 'one' }));
    await cut('delete one', (file) => deleteSnapshot(file, { idOrName: 'one' }));
    if (shape.version === 3) {
      const layer = await qcow2Format.open(memory);
      await layer.resize(shape.size * 5, nothingBelow(shape.size * 5));
      await layer[Symbol.asyncDispose]();
      await change(memory, random, shape.clusterSize);
    }
    await cut('create three', (file) => createSnapshot(file, { name: 'three', ...NOW }));
    await cut('apply two, which may be smaller', (file) => applySnapshot(file, { idOrName: 'two' }));
    await cut('apply three, which may be larger', (file) => applySnapshot(file, { idOrName: 'three' }));
    await cut('delete two', (file) => deleteSnapshot(file, { idOrName: 'two' }));
    await cut('delete three, the last', (file) => deleteSnapshot(file, { idOrName: 'three' }));
    assert.ok(states > 150, `${states} states`);
  });
}

test('the crash states show an engine that does not flush before it switches', async () => {
  const memory = new MemoryDevice();
  await createQcow2(memory, { clusterSize: 4096, size: 20 * 4096 });
  await change(memory, seeded(1), 4096);
  const act = async (file: RecordingFile): Promise<void> => {
    file.ignoresFlushes = true;
    await createSnapshot(file, { name: 'one', ...NOW });
  };
  await assert.rejects(cutEverywhere(memory, act, seeded(2), 'no flushes'));
});
