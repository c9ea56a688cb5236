import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BackingReference, isDiskError } from '@strata/block';
import { commit } from '../src/commit.ts';
import { allowLocal } from '../src/gate.ts';
import type { OpenOptions } from '../src/open.ts';
import { BlockLayer, blockFormat } from './block-layer.ts';
import { type FakeFile, fakePlaces } from './block-places.ts';

const blocks = (name: string): BackingReference => ({ name, format: 'blocks' });

function opening(layers: ReadonlyMap<string, BlockLayer>): OpenOptions & { log: readonly string[] } {
  const files = new Map<string, FakeFile>([...layers.keys()].map((name) => [name, {}]));
  const places = fakePlaces(files);
  return { formats: [blockFormat(layers)], gate: allowLocal, places, log: places.log };
}

function chain(): { top: BlockLayer; mid: BlockLayer; base: BlockLayer; layers: Map<string, BlockLayer> } {
  const top = new BlockLayer(96, { backing: blocks('mid') }).set(0, 16, 'raw', 1).set(16, 16, 'zero');
  const mid = new BlockLayer(64, { backing: blocks('base') }).set(16, 32, 'raw', 2);
  const base = new BlockLayer(80).set(0, 80, 'raw', 3);
  return {
    top,
    mid,
    base,
    layers: new Map([
      ['/i/top', top],
      ['/i/mid', mid],
      ['/i/base', base],
    ]),
  };
}

/** The state and first byte of each block of a layer. */
async function blocksOf(layer: BlockLayer): Promise<string[]> {
  const states: string[] = [];
  const byte = new Uint8Array(1);
  for (let offset = 0; offset < layer.size; offset += 16) {
    const { kind } = await layer.map(offset, 16);
    await layer.readEncoded(byte, offset);
    states.push(kind === 'raw' ? `${byte[0]}` : kind);
  }
  return states;
}

test('commit moves what the top holds into its backing file, which grows, and empties the top', async () => {
  const { top, mid, base, layers } = chain();
  const options = opening(layers);
  await commit('/i/top', options);
  // The image under the backing file is longer than it was: what was added hides it.
  assert.deepEqual(await blocksOf(mid), ['1', 'zero', '2', 'below', 'zero', 'zero']);
  assert.deepEqual(await blocksOf(top), Array(6).fill('below'));
  assert.deepEqual(await blocksOf(base), Array(5).fill('3'));
  assert.ok(mid.flushed >= 1);
  assert.deepEqual(
    options.log.filter((line) => line.startsWith('lock')),
    [...['lock /i/top write', 'lock /i/mid write', 'lock /i/base read']],
  );
});

test('commit down to a named base takes what every image above it holds and keeps the top', async () => {
  const { top, mid, base, layers } = chain();
  await commit('/i/top', opening(layers), { base: 'base' });
  // Past the end of the middle image its zeros hide what the base has there.
  assert.deepEqual(await blocksOf(base), ['1', 'zero', '2', '3', 'zero', 'zero']);
  assert.deepEqual(await blocksOf(mid), ['below', '2', '2', 'below']);
  assert.equal((await blocksOf(top))[0], '1');
});

test('commit can keep the top', async () => {
  const { top, layers } = chain();
  await commit('/i/top', opening(layers), { keep: true });
  assert.deepEqual((await blocksOf(top)).slice(0, 2), ['1', 'zero']);
});

test('a failure while committing leaves the top as it was', async () => {
  const { top, mid, layers } = chain();
  mid.flush = () => Promise.reject(new Error('disk gone'));
  await assert.rejects(commit('/i/top', opening(layers)), /disk gone/);
  assert.deepEqual((await blocksOf(top)).slice(0, 2), ['1', 'zero']);
});

test('commit without a backing file, and into one that is not in the chain, says so as qemu-img does', async () => {
  const { layers } = chain();
  await assert.rejects(commit('/i/base', opening(layers)), (error) => {
    assert.ok(isDiskError(error, 'invalid'));
    assert.equal(error.message, 'Image does not have a backing file');
    return true;
  });
  await assert.rejects(commit('/i/top', opening(layers), { base: 'nope' }), (error) => {
    assert.ok(isDiskError(error, 'not-found'));
    assert.equal(error.message, "Did not find 'nope' in the backing chain of '/i/top'");
    return true;
  });
});

test('a backing file whose format is not recorded is not written to', async () => {
  const top = new BlockLayer(64, { backing: { name: 'base', format: undefined } });
  const layers = new Map([
    ['/i/top', top],
    ['/i/base', new BlockLayer(64)],
  ]);
  await assert.rejects(commit('/i/top', opening(layers)), (error) => isDiskError(error, 'denied'));
});
