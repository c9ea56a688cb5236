import assert from 'node:assert/strict';
import { test } from 'node:test';
import { discard } from '../src/discard.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { bytesOf, faultsOf, filled, type NewImage, newImage } from './new-image.ts';

const K64 = 65_536;
const SIZE = 8 * K64 + 1024;

/** Discards everything of an image whose clusters 1 and 2 are data, 3 zeros and 4 reserved for zeros. */
async function kindsAfter(version: 2 | 3, backed: boolean): Promise<[NewImage, string[]]> {
  const made = await newImage({ version, size: SIZE }, { backed });
  const { image, below } = made;
  await write(image, filled(2 * K64, 1), K64, below);
  await zero(image, 3 * K64, K64, below, {});
  if (version === 3) await zero(image, 4 * K64, K64, below, { allocate: true });
  await discard(image, 0, SIZE);
  const kinds: string[] = [];
  for (let cluster = 0; cluster < 6; cluster++) {
    const mapping = await image.reader.map(cluster * K64, 1);
    kinds.push(mapping.kind === 'zero' && mapping.at !== undefined ? 'reserved' : mapping.kind);
  }
  return [made, kinds];
}

// The kinds are what `qemu-io -d unmap -c discard` leaves; interop.test.ts compares at random.
test('in version 3 what was there becomes zeros, and above a backing file all else too', async () => {
  const [alone, kinds] = await kindsAfter(3, false);
  assert.deepEqual(kinds, ['below', 'zero', 'zero', 'zero', 'zero', 'below']);
  assert.deepEqual(await faultsOf(alone), []);
  const [overlay, overlayKinds] = await kindsAfter(3, true);
  assert.deepEqual(overlayKinds, ['zero', 'zero', 'zero', 'zero', 'zero', 'zero']);
  assert.deepEqual(await bytesOf(overlay.image), new Uint8Array(SIZE));
  assert.deepEqual(await faultsOf(overlay), []);
});

test('in version 2 it becomes unallocated, and above a backing file nothing happens', async () => {
  const [alone, kinds] = await kindsAfter(2, false);
  assert.deepEqual(kinds, ['below', 'below', 'below', 'below', 'below', 'below']);
  assert.deepEqual(await faultsOf(alone), []);
  const [overlay, overlayKinds] = await kindsAfter(2, true);
  assert.deepEqual(overlayKinds, ['below', 'raw', 'raw', 'raw', 'below', 'below']);
  assert.deepEqual(await faultsOf(overlay), []);
});

test('parts of clusters stay, but for the cluster that the end of the disk cuts', async () => {
  const { image, below } = await newImage({ size: SIZE });
  await write(image, filled(SIZE, 1), 0, below);
  await discard(image, 100, K64 - 100);
  await discard(image, K64 + 1, 2 * K64 - 2);
  await discard(image, 8 * K64 + 512, 512);
  assert.deepEqual(await bytesOf(image), filled(SIZE, 1));
  await discard(image, 7 * K64 + 1, K64 + 1023);
  assert.equal((await image.reader.map(8 * K64, 1)).kind, 'zero');
  assert.equal((await image.reader.map(7 * K64, 1)).kind, 'raw');
});

test('space comes back to the host if that is wished, after the entries are durable', async () => {
  const { image, file, below } = await newImage({ size: SIZE }, { discardHost: true });
  await write(image, filled(4 * K64, 1), 0, below);
  await image.barrier.run();
  await discard(image, 0, 4 * K64);
  file.changes.length = 0;
  file.flushes.length = 0;
  await image.barrier.run();
  const punched = file.changes.find(({ bytes }) => bytes === undefined);
  assert.deepEqual([punched?.offset, punched?.length], [5 * K64, 4 * K64]);
  const tables = file.changes.find(({ bytes }) => bytes !== undefined);
  assert.ok(
    file.flushes.some(({ began, ended }) => began > (tables?.ended ?? 0) && ended < (punched?.began ?? 0)),
  );
});

test('an empty terabyte is discarded without reading or making a table', async () => {
  const { image, file } = await newImage({ size: 2 ** 40 });
  await discard(image, 0, 2 ** 40);
  assert.equal(file.changes.length, 0);
  assert.equal(image.barrier.isNeeded, false);
});
