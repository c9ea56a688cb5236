import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { EntryReader, forEachWord, numberOf, piecesOf } from '../src/table-reader.ts';
import { counted } from './host.ts';

const MIB = 2 ** 20;

test('a table is read no further than the file goes, and in pieces', async () => {
  const file = new MemoryDevice();
  await file.write(Buffer.alloc(3 * MIB + 5, 7), 0);
  const watched = counted(file);
  const pieces: [start: number, length: number][] = [];
  for await (const { start, bytes } of piecesOf(watched, MIB, 2 ** 52)) {
    pieces.push([start, bytes.length]);
    assert.equal(bytes[0], 7);
  }
  assert.deepEqual(pieces, [
    [0, MIB],
    [MIB, MIB],
    [2 * MIB, 8],
  ]);
  assert.equal(watched.bytesRead, 2 * MIB + 5);
  for await (const piece of piecesOf(watched, 2 ** 60, 8)) assert.fail(`a piece at ${piece.start}`);
});

test('words come in order, and those past the end of the file do not come', async () => {
  const file = new MemoryDevice();
  await file.write(Buffer.from('000000010000000200000003', 'hex'), 512);
  const seen: number[][] = [];
  await forEachWord(
    file,
    512,
    1000,
    () => undefined,
    (...word) => seen.push(word),
  );
  assert.deepEqual(seen, [
    [1, 2, 0],
    [3, 0, 1],
  ]);
});

test('entries of any length are read, across pieces and past the end of the file', async () => {
  const file = new MemoryDevice();
  const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
  await file.write(bytes, 8);
  const reader = new EntryReader(file, 8);
  let at = 0;
  for (const length of [1, 65_536, 40, 65_535, 3, 60_000, 65_536]) {
    const expected = Buffer.alloc(length);
    bytes.copy(expected, 0, at, at + length);
    assert.ok((await reader.take(length)).equals(expected), `${length} at ${at}`);
    at += length;
    assert.equal(reader.offset, at);
  }
  reader.align();
  assert.equal(reader.offset, Math.ceil(at / 8) * 8);
});

test('a number past 2^53 - 1 is beyond the limit', () => {
  assert.equal(numberOf(2n ** 53n - 1n, 'size'), Number.MAX_SAFE_INTEGER);
  assert.throws(() => numberOf(2n ** 53n, 'size'), { code: 'limit', message: 'size is past 2^53' });
});
