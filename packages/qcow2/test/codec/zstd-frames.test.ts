import assert from 'node:assert/strict';
import { test } from 'node:test';
import { frameAt } from '../../src/codec/zstd-frames.ts';

const bytes = (...parts: readonly (string | number)[]): Uint8Array =>
  Uint8Array.from(
    parts.flatMap((part) =>
      typeof part === 'number' ? [part] : [...Buffer.from(part.replaceAll(' ', ''), 'hex')],
    ),
  );

/** Magic number, single segment with a size of one byte, one raw block of three bytes that is the last. */
const small = bytes('28b52ffd 20 03 190000 616263');

test('a frame ends behind its last block', () => {
  assert.deepEqual(frameAt(small, 0), { kind: 'data', end: 12, contentSize: 3 });
  const padded = bytes('ffff', Buffer.from(small).toString('hex'), '00ff00');
  assert.deepEqual(frameAt(padded, 2), { kind: 'data', end: 14, contentSize: 3 });
});

test('sizes of 2, 4 and 8 bytes and windows are read as the format has them', () => {
  const block = '010000';
  const rows: readonly (readonly [header: string, contentSize: number | undefined, end: number])[] = [
    ['00 58', undefined, 9],
    ['40 58 0001', 512, 11],
    ['80 58 00000100', 65_536, 13],
    ['c0 58 0000000001000000', 2 ** 32, 17],
    ['60 0001', 512, 10],
  ];
  for (const [header, contentSize, end] of rows)
    assert.deepEqual(
      frameAt(bytes('28b52ffd', header, block), 0),
      { kind: 'data', end, contentSize },
      header,
    );
});

test('a checksum and a dictionary number belong to the frame', () => {
  assert.equal(frameAt(bytes('28b52ffd 24 00 010000 01020304'), 0)?.end, 13);
  assert.equal(frameAt(bytes('28b52ffd 24 00 010000 010203'), 0), undefined);
  assert.equal(frameAt(bytes('28b52ffd 23 01020304 00 010000'), 0)?.end, 13);
});

test('a run-length block takes one byte whatever it stands for', () => {
  assert.equal(frameAt(bytes('28b52ffd a0 00000100 030008 61'), 0)?.end, 13);
});

test('blocks follow each other up to the one that says it is the last', () => {
  assert.equal(frameAt(bytes('28b52ffd 00 58 080000 61 100000 6162 010000'), 0)?.end, 18);
});

test('a skippable frame holds nothing and has the length that it says', () => {
  assert.deepEqual(frameAt(bytes('502a4d18 03000000 010203'), 0), {
    kind: 'skippable',
    end: 11,
    contentSize: 0,
  });
  assert.equal(frameAt(bytes('5f2a4d18 00000000'), 0)?.kind, 'skippable');
  assert.equal(frameAt(bytes('502a4d18 ffffffff 010203'), 0), undefined);
});

test('what is cut off, is no frame, or asks for more memory than decoders give is none', () => {
  for (let length = 0; length < small.length; length++)
    assert.equal(frameAt(small.subarray(0, length), 0), undefined);
  assert.equal(frameAt(new Uint8Array(64), 0), undefined);
  assert.equal(frameAt(bytes('28b52ffd 28 03 190000 616263'), 0), undefined, 'a reserved bit');
  assert.equal(frameAt(bytes('28b52ffd 20 03 1f0000 616263'), 0), undefined, 'a reserved block type');
  assert.equal(frameAt(bytes('28b52ffd 00 88 010000'), 0)?.end, 9, 'a window of 128 MiB');
  assert.equal(frameAt(bytes('28b52ffd 00 89 010000'), 0), undefined, 'a window of 144 MiB');
  assert.equal(frameAt(bytes('28b52ffd e0 0000000001000000 010000'), 0), undefined, 'a window of 4 GiB');
});
