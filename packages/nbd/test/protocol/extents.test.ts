import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { decodeBlockStatus, writeStatusExtent } from '../../src/protocol/extents.ts';

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
  writeStatusExtent(written, 0, 0xffffffff, 0x80000001);
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
