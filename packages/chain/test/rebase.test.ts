import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BackingReference, DiskError, isDiskError } from '@strata/block';
import { ChainSource } from '../src/chain.ts';
import { allowLocal } from '../src/gate.ts';
import type { OpenOptions } from '../src/open.ts';
import { rebase, rebaseUnchecked } from '../src/rebase.ts';
import { BlockLayer, blockFormat } from './block-layer.ts';
import { type FakeFile, fakePlaces } from './block-places.ts';

const blocks = (name: string): BackingReference => ({ name, format: 'blocks' });

function opening(layers: ReadonlyMap<string, BlockLayer>): OpenOptions & { log: readonly string[] } {
  const files = new Map<string, FakeFile>([...layers.keys()].map((name) => [name, {}]));
  const places = fakePlaces(files);
  return { formats: [blockFormat(layers)], gate: allowLocal, places, log: places.log };
}

/** top over mid over base; `other` is no relation. Blocks of 512 bytes are the least that is compared. */
function images() {
  const top = new BlockLayer(8192, { backing: blocks('mid') }).set(0, 512, 'raw', 1).set(512, 512, 'zero');
  const mid = new BlockLayer(6144, { backing: blocks('base') })
    .set(1024, 512, 'raw', 2)
    .set(1536, 512, 'zero');
  const base = new BlockLayer(7168).set(0, 7168, 'raw', 3);
  const other = new BlockLayer(10_240).set(2048, 512, 'raw', 3).set(6144, 4096, 'raw', 4);
  const layers = new Map([
    ['/i/top', top],
    ['/i/mid', mid],
    ['/i/base', base],
    ['/i/other', other],
  ]);
  return { top, mid, base, other, layers };
}

async function content(layers: readonly BlockLayer[]): Promise<Buffer> {
  const bytes = Buffer.alloc((layers[0] as BlockLayer).size);
  await new ChainSource(layers, bytes.length).read(bytes, 0);
  return bytes;
}

/** How the layer holds each 512 bytes. */
async function states(layer: BlockLayer): Promise<string> {
  let text = '';
  for (let offset = 0; offset < layer.size; offset += 512) text += (await layer.map(offset, 512)).kind[0];
  return text;
}

const onto = (name: string, open: OpenOptions) => ({ reference: blocks(name), path: `/i/${name}`, open });

test('onto an unrelated image the top takes what the two differ in, and reads as before', async () => {
  const { top, mid, base, other, layers } = images();
  const before = await content([top, mid, base]);
  const open = opening(layers);
  await rebase('/i/top', open, onto('other', open));
  assert.deepEqual(top.backing, blocks('other'));
  assert.ok(before.equals(await content([top, other])));
  // At 2048 both have the same bytes; past its end the old one shows zeros, and the new one bytes.
  assert.equal(await states(top), `${'rzrb'.padEnd(4, 'b')}brrrrrrrzzzz`);
});

test('onto an image further down only what lies between is looked at', async () => {
  const { top, mid, base, layers } = images();
  const before = await content([top, mid, base]);
  const open = opening(layers);
  await rebase('/i/top', open, onto('base', open));
  assert.ok(before.equals(await content([top, base])));
  assert.equal(await states(top), `rzrz${'b'.repeat(8)}zzbb`);
});

test('onto nothing the top takes all that is not zeros', async () => {
  const { top, mid, base, layers } = images();
  const before = await content([top, mid, base]);
  await rebase('/i/top', opening(layers), undefined);
  assert.equal(top.backing, undefined);
  assert.ok(before.equals(await content([top])));
  assert.equal(await states(top), `rzrb${'r'.repeat(8)}bbbb`);
});

test('an image without a backing file can be given one', async () => {
  const { base, other, layers } = images();
  const before = await content([base]);
  const open = opening(layers);
  await rebase('/i/base', open, onto('other', open));
  assert.ok(before.equals(await content([base, other])));
});

test('without looking nothing below is opened, and nothing but the reference changes', async () => {
  const { top, layers } = images();
  const open = opening(layers);
  const before = await states(top);
  await rebaseUnchecked('/i/top', open, blocks('gone'));
  assert.deepEqual(top.backing, blocks('gone'));
  assert.equal(await states(top), before);
  assert.deepEqual(open.log, ['open /i/top', 'lock /i/top write', 'close /i/top']);
  await rebaseUnchecked('/i/top', open, undefined);
  assert.equal(top.backing, undefined);
});

test('everything is closed again, and only the top is opened for writing', async () => {
  const { layers } = images();
  const open = opening(layers);
  await rebase('/i/top', open, onto('other', open));
  const opened = open.log.filter((line) => line.startsWith('open')).map((line) => line.slice(5));
  const closed = open.log.filter((line) => line.startsWith('close')).map((line) => line.slice(6));
  assert.deepEqual(opened.sort(), ['/i/base', '/i/mid', '/i/other', '/i/top']);
  assert.deepEqual(closed.sort(), opened);
  const writers = open.log.filter((line) => line.endsWith(' write'));
  assert.deepEqual(writers, ['lock /i/top write']);
});

test('a format that is not given is refused before anything is written', async () => {
  const { top, layers } = images();
  const open = opening(layers);
  const reference = { name: 'other', format: undefined };
  const before = await states(top);
  for (const attempt of [
    () => rebase('/i/top', open, { reference, path: '/i/other', open }),
    () => rebaseUnchecked('/i/top', open, reference),
  ]) {
    await assert.rejects(attempt, (error) => isDiskError(error, 'invalid') && error.context.op === 'record');
  }
  assert.equal(await states(top), before);
  assert.deepEqual(top.backing, blocks('mid'));
});

test('a failure leaves the old backing file, and tells at which step it was', async () => {
  const broken = () => Promise.reject(new DiskError('io', 'disk gone'));
  for (const [step, spoil] of [
    ['open-new', ({ layers }: ReturnType<typeof images>) => layers.delete('/i/other')],
    ['write', ({ top }: ReturnType<typeof images>) => Object.assign(top, { write: broken })],
    ['write', ({ top }: ReturnType<typeof images>) => Object.assign(top, { flush: broken })],
    ['record', ({ top }: ReturnType<typeof images>) => Object.assign(top, { changeBacking: broken })],
    [
      'read-old',
      ({ mid }: ReturnType<typeof images>) =>
        Object.assign(mid, {
          tryMap: (_: number, length: number) => ({ kind: 'encoded', length }),
          readEncoded: broken,
        }),
    ],
    [
      'read-new',
      ({ other }: ReturnType<typeof images>) =>
        Object.assign(other, {
          tryMap: (_: number, length: number) => ({ kind: 'encoded', length }),
          readEncoded: broken,
        }),
    ],
  ] as const) {
    const all = images();
    spoil(all);
    const open = opening(all.layers);
    await assert.rejects(rebase('/i/top', open, onto('other', open)), (error) => {
      assert.ok(isDiskError(error), step);
      assert.equal(error.context.op, step);
      return true;
    });
    assert.deepEqual(all.top.backing, blocks('mid'), step);
  }
});

test('a format that records no backing file says so', async () => {
  const { top, layers } = images();
  Object.assign(top, { changeBacking: undefined });
  const open = opening(layers);
  await assert.rejects(rebase('/i/top', open, undefined), (error) => isDiskError(error, 'not-supported'));
});
