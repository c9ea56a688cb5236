import assert from 'node:assert/strict';
import { test } from 'node:test';
import { extentOf, resolve, tryResolve } from '../src/resolve.ts';
import { BlockLayer } from './block-layer.ts';

/** Top of 256 bytes over a base of 128: a block of each kind in the top, data and nothing in the base. */
function chain(waits = false): BlockLayer[] {
  const top = new BlockLayer(256, { waits, backing: { name: 'base', format: 'blocks' } })
    .set(0, 16, 'raw', 1)
    .set(16, 16, 'encoded', 2)
    .set(32, 16, 'zero')
    .set(48, 16, 'reserved');
  const base = new BlockLayer(128, { waits }).set(64, 32, 'raw', 3);
  return [top, base];
}

/** Every answer of a walk over the first 256 bytes, as `offset+length kind@layer`. */
async function walk(layers: BlockLayer[]): Promise<string[]> {
  const lines: string[] = [];
  for (let offset = 0; offset < 256; ) {
    const { layer, mapping } = await resolve(layers, offset, 256 - offset);
    lines.push(`${offset}+${mapping.length} ${mapping.kind}@${layer}`);
    offset += mapping.length;
  }
  return lines;
}

const expected = [
  '0+16 raw@0',
  '16+16 encoded@0',
  '32+16 zero@0',
  '48+16 zero@0',
  '64+32 raw@1',
  '96+32 below@1',
  '128+128 past-end@1',
];

test('the walk stops at the first layer that answers, and a short layer answers past its end', async () => {
  assert.deepEqual(await walk(chain()), expected);
});

test('a chain whose tables must be waited for resolves to the same', async () => {
  const layers = chain(true);
  assert.equal(tryResolve(layers, 0, 256), undefined);
  assert.deepEqual(await walk(layers), expected);
});

test('a lower layer cuts an answer short where it ends', async () => {
  const { mapping } = await resolve(chain(), 120, 100);
  assert.deepEqual(mapping, { kind: 'below', length: 8 });
});

test('an extent counts depth as NBD does: 1 is the top, 0 is nobody', async () => {
  const layers = chain();
  const depths: [string, number][] = [];
  for (const offset of [16, 32, 48, 64, 96, 128]) {
    const extent = extentOf(offset, await resolve(layers, offset, 256 - offset));
    depths.push([extent?.kind ?? 'ask the file', extent?.depth ?? -1]);
  }
  assert.deepEqual(depths, [
    ['compressed', 1],
    ['zero', 1],
    ['zero-allocated', 1],
    ['data', 2],
    ['hole', 0],
    ['zero', 2],
  ]);
});
