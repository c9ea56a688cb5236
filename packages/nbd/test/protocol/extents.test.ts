import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import {
  decodeBlockStatus,
  decodeExtendedBlockStatus,
  decodeStatusQuery,
  encodeStatusQuery,
  writeStatusExtent,
  writeStatusHeader,
} from '../../src/protocol/extents.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
const protocolError = (error: unknown): boolean => isDiskError(error, 'protocol');

test('a block status chunk is a context identifier and runs of length and flags', () => {
  const payload = hex('00000001 00010000 00000000 00020000 00000003');
  assert.deepEqual(decodeBlockStatus(payload), {
    contextId: 1,
    lengths: Uint32Array.of(65536, 131072),
    flags: Uint32Array.of(0, 3),
  });
  const written = Buffer.alloc(8);
  writeStatusExtent('structured', written, 0, 0xffffffff, 0x80000001);
  assert.deepEqual(written, hex('ffffffff 80000001'));
});

for (const [claim, payload] of [
  ['no extent', '00000001'],
  ['half an extent', '00000001 00010000'],
  ['an empty extent', '00000001 00000000 00000001'],
  ['no context', '000000'],
] as const) {
  test(`a block status chunk with ${claim} is refused`, () => {
    assert.throws(() => decodeBlockStatus(hex(payload)), protocolError);
  });
}

test('an extended block status chunk has a count, and runs of 64 bits', () => {
  const payload = hex(
    '00000001 00000002 0000000100000000 0000000000000003 0000000000000001 0000000100000000',
  );
  assert.deepEqual(decodeExtendedBlockStatus(payload), {
    contextId: 1,
    lengths: Float64Array.of(2 ** 32, 1),
    flags: Float64Array.of(3, 2 ** 32),
  });
  const written = Buffer.alloc(24);
  const at = writeStatusHeader('extended', written, 0, 1, 1);
  assert.equal(writeStatusExtent('extended', written, at, 2 ** 32 + 5, 0xffffffff), 24);
  assert.deepEqual(written, hex('00000001 00000001 0000000100000005 00000000ffffffff'));
});

for (const [claim, payload] of [
  ['no extent', '00000001 00000000'],
  ['a count that is too low', `00000001 00000001 ${'0000000000000001'.repeat(4)}`],
  ['a count that is too high', `00000001 00000002 ${'0000000000000001'.repeat(2)}`],
  ['an empty extent', '00000001 00000001 0000000000000000 0000000000000001'],
] as const) {
  test(`an extended block status chunk with ${claim} is refused`, () => {
    assert.throws(() => decodeExtendedBlockStatus(hex(payload)), protocolError);
  });
}

test('a block status of some contexts is asked for by a length and identifiers, none twice', () => {
  const query = { length: 2 ** 32 + 1, contextIds: [7, 1] };
  const payload = hex('0000000100000001 00000007 00000001');
  assert.deepEqual(encodeStatusQuery(query), payload);
  assert.deepEqual(decodeStatusQuery(payload), query);
  for (const wrong of [
    '',
    '00',
    '0000000100000001',
    `${payload.toString('hex')}00`,
    '0000000000000001 00000001 00000001',
  ]) {
    assert.equal(decodeStatusQuery(hex(wrong)), undefined, wrong);
  }
});
