/** The file beside an image: it is replaced whole, follows links to the image and no others, and is as private. */
import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { placeBeside } from '../src/side-place.ts';

const text = (words: string) => async (file: { write(from: Uint8Array, at: number): Promise<void> }) =>
  file.write(Buffer.from(words), 0);

test('it stands beside the real file, is as private, and is removed', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  await writeFile(image, 'image');
  await chmod(image, 0o640);
  await mkdir(folder.file('links'));
  await symlink(image, folder.file('links/other'));
  const place = await placeBeside(folder.file('links/other'));
  assert.equal(await place.open(), undefined);
  await place.replace(text('first'));
  await place.replace(text('2nd'));
  assert.equal(await readFile(`${image}.bitmaps`, 'utf8'), '2nd');
  assert.equal((await stat(`${image}.bitmaps`)).mode & 0o777, 0o640);
  {
    await using file = await place.open();
    assert.equal(file?.size, 3);
  }
  await place.remove();
  assert.deepEqual((await readdir(folder.path)).sort(), ['disk.raw', 'links']);
});

test('a replacement that fails leaves the old file and nothing else', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  await writeFile(image, 'image');
  const place = await placeBeside(image);
  await place.replace(text('first'));
  const failing = place.replace(async (file) => {
    await file.write(Buffer.from('half'), 0);
    throw new Error('no more');
  });
  await assert.rejects(failing, /no more/);
  assert.equal(await readFile(`${image}.bitmaps`, 'utf8'), 'first');
  assert.deepEqual((await readdir(folder.path)).sort(), ['disk.raw', 'disk.raw.bitmaps']);
});

test('links in its place are neither read nor written through', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  const precious = folder.file('precious');
  await writeFile(image, 'image');
  await writeFile(precious, 'precious');
  await symlink(precious, `${image}.bitmaps`);
  await symlink(precious, `${image}.bitmaps.tmp`);
  const place = await placeBeside(image);
  await assert.rejects(place.open(), (error) => isDiskError(error, 'not-supported'));
  await place.replace(text('mine'));
  assert.equal(await readFile(precious, 'utf8'), 'precious');
  assert.equal(await readFile(`${image}.bitmaps`, 'utf8'), 'mine');
});

test('what stands there and is no file is not opened, and what is not there cannot be beside', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  await writeFile(image, 'image');
  await mkdir(`${image}.bitmaps`);
  const place = await placeBeside(image);
  await assert.rejects(place.open(), (error) => isDiskError(error, 'not-supported'));
  await assert.rejects(placeBeside(folder.file('nothing')), (error) => isDiskError(error, 'not-found'));
});
