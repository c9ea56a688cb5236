/** An image whose use changes while its chain is open. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { allowLocal } from '../src/gate.ts';
import { type OpenOptions, openWritableChain } from '../src/open.ts';
import { closeImage } from '../src/open-image.ts';
import { BlockLayer, blockFormat } from './block-layer.ts';
import { type FakeFile, fakePlaces } from './block-places.ts';

function chainOf(files: Map<string, FakeFile>, backing: { name: string; format?: string }) {
  const layers = new Map([
    ['top', new BlockLayer(512, { backing: { name: backing.name, format: backing.format } })],
    ['base', new BlockLayer(512)],
  ]);
  const places = fakePlaces(files);
  const raw = blockFormat(layers, { name: 'raw' });
  const open: OpenOptions = { formats: [blockFormat(layers), raw], gate: allowLocal, places };
  return { layers, places, open };
}

const both = () => new Map<string, FakeFile>(['top', 'base'].map((name) => [name, {}]));

test('an image goes over to writing beside itself, and gives up its own locks for that', async () => {
  const { places, open } = chainOf(both(), { name: 'base', format: 'blocks' });
  const chain = await openWritableChain('top', open);
  const before = places.log.length;
  const written = await chain.images[1]?.toWrite();
  assert.ok(written);
  assert.deepEqual(places.log.slice(before), ['lock base shared', 'open base', 'lock base write']);
  await closeImage(written);
  await chain[Symbol.asyncDispose]();
});

test('an image goes over to reading in the files that it has: the layer is closed, the locks are those of a reader', async () => {
  const { layers, places, open } = chainOf(both(), { name: 'base', format: 'blocks' });
  const chain = await openWritableChain('top', open);
  const before = places.log.length;
  const { image, failure } = await chain.top.toRead();
  assert.equal(failure, undefined);
  assert.deepEqual(places.log.slice(before), ['lock top read']);
  assert.ok(layers.get('top')?.disposed);
  await closeImage(image);
  assert.deepEqual(places.log.slice(before), ['lock top read', 'close top']);
});

test('an image does not go over to writing if another file has its name by now, or if its format was guessed', async () => {
  const files = both();
  const { places, open } = chainOf(files, { name: 'base', format: 'blocks' });
  const chain = await openWritableChain('top', open);
  files.set('base', { identity: 'another' });
  await assert.rejects(
    async () => chain.images[1]?.toWrite(),
    (error) => isDiskError(error, 'denied') && /another file/.test(error.message),
  );
  assert.deepEqual(places.log.slice(-2), ['close base', 'lock base read'], 'it is as it was');
  await chain[Symbol.asyncDispose]();

  const guessed = chainOf(both(), { name: 'base' });
  const other = await openWritableChain('top', guessed.open);
  await assert.rejects(
    async () => other.images[1]?.toWrite(),
    (error) => isDiskError(error, 'denied') && /not guessed for writing/.test(error.message),
  );
  await other[Symbol.asyncDispose]();
});
