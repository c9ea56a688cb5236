/** A folder is read as it is: what is no backup is passed over, what is damaged is told of, and chains end. */
import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { chainTo, lockFolder, nextNumber, type Point, pointNamed, readPoints } from '../src/folder.ts';
import { formatManifest, type Manifest } from '../src/manifest.ts';

const digest = (number: number): string => number.toString(16).padStart(64, '0');

function manifest(number: number, parent: number | undefined, more: Partial<Manifest> = {}): Manifest {
  return {
    number,
    size: 1 << 20,
    parent: parent === undefined ? undefined : { number: parent, sha256: digest(parent) },
    source: 'disk',
    checkpoint: `c${number}`,
    bitmaps: parent === undefined ? [] : [`c${parent}`],
    frozen: true,
    time: '2026-11-23T03:10:11.123Z',
    file: { length: 1, sha256: digest(number), modified: '1' },
    ...more,
  };
}

const point = (of: Manifest): Point => ({ number: of.number, manifest: of, problem: undefined });

const throws = (call: () => unknown, code: string, words: RegExp): void => {
  assert.throws(call, (error) => isDiskError(error, code as never) && words.test(error.message));
};

test('manifests are found among other files, and one that cannot be read is told of', async () => {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('0002.json'), formatManifest(manifest(2, 1)));
  await writeFile(folder.file('0001.json'), formatManifest(manifest(1, undefined)));
  await writeFile(folder.file('0003.json'), 'x'.repeat(300_000));
  await mkdir(folder.file('0004.json'));
  await symlink('/dev/zero', folder.file('0005.json'));
  for (const name of ['notes.json', '.0006.json', '7.json', '0008.qcow2'])
    await writeFile(folder.file(name), '{}');
  const points = await readPoints(folder.path);
  assert.deepEqual(
    points.map(({ number, problem }) => [number, problem?.code]),
    [
      [1, undefined],
      [2, undefined],
      [3, 'limit'],
      [4, 'not-supported'],
      [5, 'not-supported'],
    ],
  );
  assert.equal(await nextNumber(folder.path), 9, 'no name is used twice');
  assert.equal(await readFile(folder.file('0008.qcow2'), 'utf8'), '{}');
});

test('a point is found by its number, its checkpoint, or as the newest', () => {
  const points = [
    point(manifest(1, undefined)),
    point(manifest(2, 1, { checkpoint: '1' })),
    point(manifest(3, 2)),
  ];
  assert.equal(pointNamed(points, undefined).number, 3);
  assert.equal(pointNamed(points, '3').number, 3);
  assert.equal(pointNamed(points, 'c1').number, 1);
  assert.equal(pointNamed(points, '1').number, 2, 'a checkpoint goes before a number');
  throws(() => pointNamed(points, '7'), 'not-found', /no backup '7'/);
  throws(() => pointNamed([], undefined), 'not-found', /no backups/);
});

test('a chain whose links do not fit is refused', () => {
  const first = manifest(1, undefined);
  const chain = (points: readonly Manifest[]) => chainTo(points.map(point), point(points.at(-1) as Manifest));
  assert.deepEqual(
    chain([first, manifest(2, 1), manifest(3, 2)]).map(({ number }) => number),
    [3, 2, 1],
  );
  throws(
    () => chain([manifest(2, 1)]),
    'not-found',
    /'0002\.qcow2' builds upon '0001\.qcow2', which has no manifest/,
  );
  const other = { ...first, file: { ...first.file, sha256: digest(9) } };
  throws(() => chain([other, manifest(2, 1)]), 'corrupt', /another one now/);
  throws(() => chain([{ ...first, size: 512 }, manifest(2, 1)]), 'corrupt', /another size/);
  const long = Array.from({ length: 201 }, (_, index) =>
    manifest(index + 1, index === 0 ? undefined : index),
  );
  throws(() => chain(long), 'limit', /more than 200/);
});

test('a folder has one writer, and one that cannot be made says why', async () => {
  await using folder = await temporaryFolder();
  {
    await using _ = await lockFolder(folder.file('a/b'));
    await assert.rejects(lockFolder(folder.file('a/b')), (error) => isDiskError(error, 'busy'));
  }
  await using _ = await lockFolder(folder.file('a/b'));
  await writeFile(folder.file('file'), '');
  await assert.rejects(lockFolder(folder.file('file')), (error) => isDiskError(error, 'exists', 'not-found'));
  await assert.rejects(readPoints(folder.file('none')), (error) => isDiskError(error, 'not-found'));
});
