/** Checkpoints of several images are made of all or of none, whatever interrupts them, and nothing that changed is missed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BitmapChange, DirtyBitmap } from '@strata/bitmap';
import { isDiskError } from '@strata/block';
import { bitmapsBetween } from '../src/checkpoint-name.ts';
import { checkpointOfDisk, checkpointsIn } from '../src/checkpoint-state.ts';
import {
  type CheckpointImage,
  createCheckpoint,
  dropCheckpoints,
  finishCheckpoint,
} from '../src/checkpoints.ts';

const size = 64 * 4096;

interface Row {
  readonly bitmap: DirtyBitmap;
  enabled: boolean;
  inconsistent: boolean;
}

/** An image in memory: each call of `change` happens or does not, as `mayChange` says. */
class ModelImage implements CheckpointImage {
  readonly name: string;
  readonly granularity = 4096;
  readonly rows = new Map<string, Row>();
  readonly #mayChange: () => void;

  constructor(name: string, mayChange: () => void) {
    this.name = name;
    this.#mayChange = mayChange;
  }

  async list() {
    return [...this.rows].map(([name, { enabled, inconsistent }]) => ({ name, enabled, inconsistent }));
  }

  async change(changes: readonly BitmapChange[]): Promise<void> {
    this.#mayChange();
    for (const each of changes) {
      const row = this.rows.get(each.name);
      if (each.kind === 'add') {
        assert.equal(row, undefined);
        const { enabled, granularity } = each;
        this.rows.set(each.name, {
          bitmap: new DirtyBitmap(size, granularity),
          enabled,
          inconsistent: false,
        });
        continue;
      }
      assert.ok(row);
      if (each.kind === 'set-enabled') row.enabled = each.enabled;
      else this.rows.delete(each.name);
      if (each.kind === 'rename') this.rows.set(each.to, row);
    }
  }

  /** The guest writes. */
  write(block: number): void {
    for (const { bitmap, enabled } of this.rows.values()) if (enabled) bitmap.set(block * 4096, 4096);
  }

  checkpoints() {
    return checkpointsIn(
      [...this.rows].map(([name, row]) => ({ name, enabled: row.enabled, inconsistent: row.inconsistent })),
      'backup',
    );
  }

  newest(): string {
    return this.checkpoints().at(-1)?.name ?? '';
  }

  /** What changed between two checkpoints, as a backup would find it. */
  changed(from: string, to: string): DirtyBitmap {
    const frozen = [...this.rows].filter(([, { enabled }]) => !enabled).map(([name]) => name);
    const all = new DirtyBitmap(size, 4096);
    for (const name of bitmapsBetween(frozen, from, to))
      all.merge(this.rows.get(name)?.bitmap as DirtyBitmap);
    return all;
  }
}

/** Images whose changes fail after so many. */
function images(count: number) {
  const fuse = { left: Number.POSITIVE_INFINITY };
  const mayChange = (): void => {
    if (fuse.left-- <= 0) throw new Error('power cut');
  };
  return {
    fuse,
    all: Array.from({ length: count }, (_, index) => new ModelImage(`image ${index}`, mayChange)),
  };
}

const invalid = (words: RegExp) => (error: unknown) => {
  assert.ok(isDiskError(error, 'invalid'), String(error));
  assert.match(error.message, words);
  return true;
};

test('a cycle of checkpoints tells what changed between each two, and keeps the newest only when it is done', async () => {
  const [image] = images(1).all as [ModelImage];
  const [first] = await createCheckpoint([image], 'backup');
  image.write(3);
  const [second] = await createCheckpoint([image], 'backup');
  image.write(5);
  assert.equal(first?.image, 'image 0');
  const from = first?.checkpoint ?? '';
  const to = second?.checkpoint ?? '';
  assert.match(from, /^backup\.1\.[0-9a-f]{8}\.[0-9a-f]{8}$/);
  assert.equal(to.split('.').at(-1), from.split('.').at(-1), 'the disk keeps its identity');
  assert.deepEqual([...image.changed(from, to).ranges()], [{ offset: 3 * 4096, length: 4096 }]);
  assert.deepEqual(await finishCheckpoint([image], 'backup'), [{ image: 'image 0', checkpoint: from }]);
  assert.deepEqual([...image.rows.keys()], [to]);
  assert.deepEqual(await finishCheckpoint([image], 'backup'), []);
  await dropCheckpoints([image], 'backup');
  assert.deepEqual([...image.rows.keys()], []);
});

test('series of one image do not see each other', async () => {
  const [image] = images(1).all as [ModelImage];
  await createCheckpoint([image], 'daily');
  await createCheckpoint([image], 'weekly');
  image.write(1);
  await createCheckpoint([image], 'daily');
  await finishCheckpoint([image], 'daily');
  const kept = [...image.rows.keys()].map((name) => name.split('.').slice(0, 2).join('.'));
  assert.deepEqual(kept, ['weekly.1', 'daily.2']);
  await assert.rejects(createCheckpoint([image], 'a.b'), invalid(/series/));
});

for (const count of [1, 2, 3]) {
  test(`${count} images, cut off after each change: all have the checkpoint or none after the next run`, async () => {
    let cuts = 0;
    for (let left = 0; ; left++) {
      const { all, fuse } = images(count);
      const from = new Map(
        (await createCheckpoint(all, 'backup')).map((each) => [each.image, each.checkpoint]),
      );
      const written = all.map(() => new Set<number>());
      const write = (block: number): void => {
        all.forEach((image, index) => {
          image.write(block + index);
          written[index]?.add(block + index);
        });
      };
      write(1);
      fuse.left = left;
      const isCut = await createCheckpoint(all, 'backup').then(
        () => false,
        () => true,
      );
      fuse.left = Number.POSITIVE_INFINITY;
      // A guest runs before anybody notices.
      write(10);
      const made = await createCheckpoint(all, 'backup');
      const groups = new Set(made.map(({ checkpoint }) => checkpoint.split('.')[2]));
      assert.equal(groups.size, 1);
      const between = all.map((image) => image.checkpoints().length);
      assert.equal(new Set(between).size, 1, `as many checkpoints everywhere: ${between}`);
      all.forEach((image, index) => {
        assert.ok(image.checkpoints().every(({ parts }) => parts.unfinishedOf === undefined));
        const changed = image.changed(from.get(image.name) ?? '', image.newest());
        for (const block of written[index] ?? []) assert.ok(changed.isDirty(block * 4096), `block ${block}`);
      });
      if (!isCut) break;
      cuts++;
    }
    assert.equal(cuts, count === 1 ? 1 : 2 * count);
  });
}

test('one image that takes no checkpoint leaves the others without', async () => {
  const { all } = images(2);
  const unable: CheckpointImage = {
    name: 'old',
    granularity: 4096,
    list: async () => [],
    change: async () => assert.fail('version 2 keeps no bitmaps'),
  };
  await createCheckpoint(all, 'backup');
  await assert.rejects(createCheckpoint([...all, unable], 'backup'), /version 2/);
  assert.deepEqual(
    all.map((image) => image.checkpoints().map(({ parts, enabled }) => [parts.number, enabled])),
    [[[1, true]], [[1, true]]],
  );
});

test('an interrupted checkpoint is no state to back up, and asks for all of its images', async () => {
  const { all, fuse } = images(3);
  await createCheckpoint(all, 'backup');
  fuse.left = 2;
  await assert.rejects(createCheckpoint(all, 'backup'), /power cut/);
  fuse.left = Number.POSITIVE_INFINITY;
  const [first, second, third] = all as [ModelImage, ModelImage, ModelImage];
  await assert.rejects(
    checkpointOfDisk(first.checkpoints(), async () => 0),
    invalid(/was interrupted/),
  );
  await assert.rejects(finishCheckpoint([first], 'backup'), invalid(/was interrupted/));
  await assert.rejects(createCheckpoint([first, second], 'backup'), invalid(/of 3 images.*2 are named/));
  await createCheckpoint([third, second, first], 'backup');
  assert.ok(all.every((image) => image.checkpoints().length === 2));
});

test('a disk is at its newest checkpoint only if nothing changed since and its bitmap is sound', async () => {
  const [image] = images(1).all as [ModelImage];
  const stateOf = () =>
    checkpointOfDisk(image.checkpoints(), async (name) => image.rows.get(name)?.bitmap.count ?? 0);
  assert.equal(await stateOf(), undefined);
  const [made] = await createCheckpoint([image], 'backup');
  assert.equal(await stateOf(), made?.checkpoint);
  image.write(0);
  await assert.rejects(stateOf(), invalid(/has changed since checkpoint/));
  await createCheckpoint([image], 'backup');
  const row = image.rows.get(image.newest()) as Row;
  row.enabled = false;
  await assert.rejects(stateOf(), invalid(/records no more/));
  row.inconsistent = true;
  await assert.rejects(stateOf(), invalid(/not saved properly/));
  image.rows.set('backup.9.00000000.11111111', { ...row, inconsistent: false });
  await assert.rejects(stateOf(), invalid(/are of different disks/));
});
