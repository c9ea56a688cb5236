import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DirectSend, type HostSource, type Layer, type LayerSource, MemoryDevice } from '@strata/block';
import { ChainDevice, ChainSource } from '../src/chain.ts';
import { BlockLayer } from './block-layer.ts';

const overlay = { backing: { name: 'base', format: 'blocks' } };

test('a read takes every piece from the layer that holds it', async () => {
  for (const waits of [false, true]) {
    const top = new BlockLayer(128, { ...overlay, waits }).set(16, 16, 'raw', 1).set(48, 16, 'zero');
    const base = new BlockLayer(96, { waits }).set(0, 96, 'raw', 2);
    const into = new Uint8Array(128).fill(0xee);
    await new ChainSource([top, base], 128).read(into, 0);
    const expected = [
      ...Array(16).fill(2),
      ...Array(16).fill(1),
      ...Array(16).fill(2),
      ...Array(16).fill(0),
      ...Array(32).fill(2),
      ...Array(32).fill(0),
    ];
    assert.deepEqual([...into], expected);
  }
});

test('a try reads the same bytes without waiting, or says that it must wait', () => {
  const top = new BlockLayer(64, overlay).set(0, 16, 'raw', 1);
  const base = new BlockLayer(64).set(16, 16, 'raw', 2);
  const into = new Uint8Array(64).fill(0xee);
  assert.equal(new ChainSource([top, base], 64).tryRead(into, 0), true);
  assert.deepEqual([...into], [...Array(16).fill(1), ...Array(16).fill(2), ...Array(32).fill(0)]);

  const slow = new BlockLayer(64, { waits: true }).set(16, 16, 'raw', 2);
  assert.equal(new ChainSource([top, slow], 64).tryRead(into, 0), false);
  top.set(0, 16, 'encoded', 1);
  assert.equal(new ChainSource([top, base], 64).tryRead(into, 0), false, 'encoded bytes take work to read');
});

test('a read that fails in one piece waits for the others before it rejects', async () => {
  const top = new BlockLayer(64, overlay).set(0, 16, 'raw', 1).set(16, 16, 'encoded', 2);
  let finish: () => void = () => undefined;
  top.readEncoded = () =>
    new Promise((resolve) => {
      finish = resolve;
    });
  const base = new BlockLayer(64).set(32, 32, 'encoded', 3);
  base.readEncoded = () => Promise.reject(new Error('bad sector'));
  let settled = false;
  const reading = new ChainSource([top, base], 64).read(new Uint8Array(64), 0).finally(() => {
    settled = true;
  });
  reading.catch(() => undefined);
  await new Promise(setImmediate);
  assert.equal(settled, false);
  finish();
  await assert.rejects(reading, /bad sector/);
});

test('a write to the top reads the rest of its block from below, zeros past the end of a short base', async () => {
  const top = new BlockLayer(64, overlay);
  const base = new BlockLayer(40).set(32, 8, 'raw', 7);
  const device = new ChainDevice(top, [base]);
  await device.write(new Uint8Array([9]), 36);
  const into = new Uint8Array(16);
  await device.read(into, 32);
  assert.deepEqual([...into], [7, 7, 7, 7, 9, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
});

test('zero, discard and flush are the top layer’s', async () => {
  const top = new BlockLayer(64, overlay);
  const base = new BlockLayer(64).set(0, 64, 'raw', 5);
  const device = new ChainDevice(top, [base]);
  await device.zero(0, 16);
  await device.discard(16, 16);
  await device.flush();
  assert.equal(top.flushed, 1);
  assert.equal(base.flushed, 0);
  const into = new Uint8Array(64);
  await device.read(into, 0);
  assert.deepEqual([...into], [...Array(32).fill(0), ...Array(32).fill(5)]);
});

test('bytes are sent out of files of raw images alone, from where they lie in them', () => {
  const asked: string[] = [];
  const send: DirectSend = (socket, offset, length) => {
    asked.push(`${socket}: ${offset}+${length}`);
    return length;
  };
  const file = { tryDirect: () => send } as unknown as HostSource;
  const layer = (format: string, start: number): LayerSource => ({
    size: 64,
    format,
    backing: undefined,
    tryMap: (offset, limit) => ({
      kind: 'raw',
      device: file,
      at: start + offset,
      length: Math.min(limit, offset < 32 ? 32 - offset : 64),
      sparse: true,
    }),
    map: () => Promise.reject(new Error('unasked')),
    readEncoded: () => Promise.reject(new Error('unasked')),
    [Symbol.asyncDispose]: async () => undefined,
  });
  const chain = (format: string, start = 0) => new ChainSource([layer(format, start)], 96);
  assert.equal(chain('raw').tryDirect(4, 8)?.(7, 6, 2), 2);
  assert.equal(chain('raw', 1000).tryDirect(4, 8)?.(7, 6, 2), 2);
  assert.deepEqual(asked, ['7: 6+2', '7: 1006+2']);
  assert.equal(chain('qcow2').tryDirect(4, 8), undefined);
  assert.equal(chain('raw').tryDirect(28, 8), undefined, 'two pieces');
  assert.equal(chain('raw').tryDirect(60, 8), undefined, 'past the end of the image');
});

test('where bytes lie is told of those that lie as they are, in whatever layer', async () => {
  const top = new BlockLayer(64, overlay).set(0, 16, 'raw', 1).set(16, 16, 'zero').set(48, 16, 'encoded', 2);
  const base = new BlockLayer(64).set(32, 16, 'raw', 3);
  const source = new ChainSource([top, base], 64);
  const host = new MemoryDevice(100);
  for (const layer of [top, base]) layer.place = (at, length) => ({ host, at: at + 7, length });
  assert.deepEqual(await source.placeAt(4, 60), { host, at: 11, length: 12 });
  assert.deepEqual(await source.placeAt(32, 8), { host, at: 39, length: 8 });
  for (const offset of [16, 48]) assert.equal(await source.placeAt(offset, 1), undefined);
  base.place = undefined;
  assert.equal(await source.placeAt(32, 8), undefined);
});

test('copies inside the host go to the top layer, with what is below', async () => {
  const top: Layer = new BlockLayer(64, overlay);
  const base = new BlockLayer(64).set(0, 64, 'raw', 5);
  const range = { host: new MemoryDevice(16), at: 3, length: 7 };
  assert.equal(await new ChainDevice(top, [base]).copyFrom(range, 16), false);
  top.copyFrom = async (from, offset, below) => {
    assert.deepEqual([from, offset], [range, 16]);
    const into = new Uint8Array(64);
    await below.read(into, 0);
    assert.ok(into.every((byte) => byte === 5));
    return true;
  };
  assert.equal(await new ChainDevice(top, [base]).copyFrom(range, 16), true);
});
