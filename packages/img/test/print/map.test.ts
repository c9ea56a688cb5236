import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BlockSource, Extent, Mapping } from '@strata/block';
import type { Resolution } from '@strata/chain';
import { type MappedChain, mapJson, mapLine, mappedSize, walkMap } from '../../src/print/map.ts';

/** A chain whose answers stand in a list, in the order of the disk. */
function chainOf(
  images: readonly (readonly [format: string, size: number])[],
  answers: readonly Resolution[],
): MappedChain {
  return {
    images: images.map(([name, size]) => ({ format: { name }, layer: { size } })),
    resolve: () => Promise.reject(new Error('all answers are there at once')),
    tryResolve: (offset, limit) => {
      let start = 0;
      for (const { layer, mapping } of answers) {
        const skipped = offset - start;
        start += mapping.length;
        if (offset >= start) continue;
        const length = Math.min(mapping.length - skipped, limit);
        return { layer, mapping: shifted(mapping, skipped, length) };
      }
      return undefined;
    },
  };
}

function shifted(mapping: Resolution['mapping'], by: number, length: number): Resolution['mapping'] {
  if (mapping.kind === 'raw') return { ...mapping, at: mapping.at + by, length };
  if (mapping.kind === 'zero' && mapping.at !== undefined) return { ...mapping, at: mapping.at + by, length };
  return { ...mapping, length };
}

/** A file that says the same of all of its bytes. */
function fileOf(extent: Pick<Extent, 'kind' | 'depth'>): BlockSource {
  const extentAt = (offset: number, limit: number): Extent => ({ offset, length: limit, ...extent });
  return {
    size: 2 ** 40,
    tryExtentAt: extentAt,
    extentAt: async (offset, limit) => extentAt(offset, limit),
    read: () => Promise.reject(new Error('a map reads nothing')),
    tryRead: () => false,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

const data = fileOf({ kind: 'data', depth: 1 });
const raw = (at: number, length: number, device = data, sparse = false): Mapping => ({
  kind: 'raw',
  device,
  at,
  length,
  sparse,
});

async function mapOf(chain: MappedChain, start: number, end: number): Promise<readonly string[]> {
  const lines: string[] = [];
  await walkMap(chain, start, end, (entry) => lines.push(mapJson(entry)));
  return lines;
}

// The lines below are those of qemu-img 7.2.22 on images that were made so.

test('what nobody wrote is absent at the depth of the deepest image', async () => {
  const chain = chainOf(
    [
      ['qcow2', 1 << 20],
      ['qcow2', 1 << 20],
    ],
    [{ layer: 1, mapping: { kind: 'below', length: 1 << 20 } }],
  );
  assert.deepEqual(await mapOf(chain, 0, 1 << 20), [
    '{ "start": 0, "length": 1048576, "depth": 1, "present": false, "zero": true, "data": false}',
  ]);
});

test('past the end of a raw backing file comes its padded sector, then what is absent above it', async () => {
  const chain = chainOf(
    [
      ['qcow2', 262144],
      ['raw', 1000],
    ],
    [
      { layer: 1, mapping: raw(0, 1000, data, true) },
      { layer: 1, mapping: { kind: 'past-end', length: 262144 - 1000 } },
    ],
  );
  assert.deepEqual(await mapOf(chain, 0, 262144), [
    '{ "start": 0, "length": 1000, "depth": 1, "present": true, "zero": false, "data": true, "offset": 0}',
    '{ "start": 1000, "length": 24, "depth": 1, "present": true, "zero": true, "data": false, "offset": 1000}',
    '{ "start": 1024, "length": 261120, "depth": 0, "present": false, "zero": true, "data": false}',
  ]);
});

test('a raw image ends at a full sector', () => {
  assert.equal(mappedSize({ format: { name: 'raw' }, layer: { size: 1000 } }), 1024);
  assert.equal(mappedSize({ format: { name: 'qcow2' }, layer: { size: 1024 } }), 1024);
});

test('neighbours are one entry only if their places in the file are contiguous', async () => {
  const chain = chainOf(
    [['qcow2', 196608]],
    [
      { layer: 0, mapping: raw(327680, 65536) },
      { layer: 0, mapping: raw(393216, 65536) },
      { layer: 0, mapping: raw(327680, 65536) },
    ],
  );
  assert.deepEqual(await mapOf(chain, 0, 196608), [
    '{ "start": 0, "length": 131072, "depth": 0, "present": true, "zero": false, "data": true, "offset": 327680}',
    '{ "start": 131072, "length": 65536, "depth": 0, "present": true, "zero": false, "data": true, "offset": 327680}',
  ]);
});

test('a preallocated cluster in a hole of its file is data and zero, and a zero cluster is not data', async () => {
  const chain = chainOf(
    [['qcow2', 196608]],
    [
      { layer: 0, mapping: raw(327680, 65536, fileOf({ kind: 'zero', depth: 1 }), true) },
      { layer: 0, mapping: { kind: 'zero', at: 393216, length: 65536 } },
      { layer: 0, mapping: { kind: 'zero', at: undefined, length: 65536 } },
    ],
  );
  assert.deepEqual(await mapOf(chain, 0, 196608), [
    '{ "start": 0, "length": 65536, "depth": 0, "present": true, "zero": true, "data": true, "offset": 327680}',
    '{ "start": 65536, "length": 65536, "depth": 0, "present": true, "zero": true, "data": false, "offset": 393216}',
    '{ "start": 131072, "length": 65536, "depth": 0, "present": true, "zero": true, "data": false}',
  ]);
});

test('encoded bytes are data without a place', async () => {
  const chain = chainOf([['qcow2', 65536]], [{ layer: 0, mapping: { kind: 'encoded', length: 65536 } }]);
  assert.deepEqual(await mapOf(chain, 0, 65536), [
    '{ "start": 0, "length": 65536, "depth": 0, "present": true, "zero": false, "data": true}',
  ]);
});

test('the depths of an exported chain count on, and its holes are absent', async () => {
  const answer = (device: BlockSource): Resolution => ({ layer: 0, mapping: raw(0, 65536, device, true) });
  const mapped = (kind: Extent['kind'], depth: number) =>
    mapOf(chainOf([['raw', 65536]], [answer(fileOf({ kind, depth }))]), 0, 65536);
  const head = '{ "start": 0, "length": 65536, "depth":';
  assert.deepEqual(await mapped('data', 3), [
    `${head} 2, "present": true, "zero": false, "data": true, "offset": 0}`,
  ]);
  assert.deepEqual(await mapped('zero', 2), [
    `${head} 1, "present": true, "zero": true, "data": false, "offset": 0}`,
  ]);
  assert.deepEqual(await mapped('hole', 0), [`${head} 0, "present": false, "zero": true, "data": false}`]);
});

test('a map may begin and end anywhere', async () => {
  const chain = chainOf([['qcow2', 131072]], [{ layer: 0, mapping: raw(327680, 131072) }]);
  assert.deepEqual(await mapOf(chain, 100, 80100), [
    '{ "start": 100, "length": 80000, "depth": 0, "present": true, "zero": false, "data": true, "offset": 327780}',
  ]);
});

test('the form for people shows hexadecimal columns, and 0 without a prefix', () => {
  const entry = {
    start: 0,
    length: 0x1000,
    depth: 0,
    present: true,
    zero: false,
    data: true,
    offset: 0x50000,
  };
  assert.equal(mapLine(entry, 'top'), '0               0x1000          0x50000         top\n');
});
