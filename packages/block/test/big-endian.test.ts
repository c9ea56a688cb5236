import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fitsU64, getU16, getU32, getU64, putU16, putU32, putU64 } from '@strata/block';
import { assertSameBytes } from '@strata/testkit';

const bytes = Uint8Array.of(0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8, 0x01);

test('numbers are read with the most significant byte first, and unsigned', () => {
  assert.equal(getU16(bytes, 0), 0xfffe);
  assert.equal(getU16(bytes, 7), 0xf801);
  assert.equal(getU32(bytes, 0), 0xfffefdfc);
  assert.equal(getU32(bytes, 5), 0xfaf9f801);
  assert.equal(getU64(Uint8Array.of(0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 0), 2 ** 53 - 1);
  assert.equal(getU64(Uint8Array.of(9, 0, 0, 0, 1, 0, 0, 0, 2), 1), 2 ** 32 + 2);
});

test('a 64-bit number that a number cannot hold is over the limit', () => {
  const large = Uint8Array.of(0, 0x20, 0, 0, 0, 0, 0, 1);
  assert.equal(fitsU64(large, 0), false);
  assert.throws(() => getU64(large, 0, 'l1_table_offset'), {
    code: 'limit',
    message: 'l1_table_offset 0x20000000000001 is above 2^53 - 1',
  });
  assert.equal(fitsU64(Uint8Array.of(0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 0), true);
});

test('numbers are written with the most significant byte first, and nothing beside them', () => {
  const into = new Uint8Array(10).fill(0xee);
  putU16(into, 1, 0x1234);
  putU32(into, 4, 0xfedcba98);
  assert.deepEqual([...into], [0xee, 0x12, 0x34, 0xee, 0xfe, 0xdc, 0xba, 0x98, 0xee, 0xee]);
  putU64(into, 1, 2 ** 53 - 1);
  assert.deepEqual([...into], [0xee, 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xee]);
});

test('what a 64-bit field cannot hold is not written', () => {
  const into = new Uint8Array(8);
  for (const value of [-1, 0.5, 2 ** 53, Number.NaN]) assert.throws(() => putU64(into, 0, value), RangeError);
  assertSameBytes(into, new Uint8Array(8));
});

test('reading or writing past the end is a RangeError', () => {
  for (const call of [
    () => getU16(bytes, 8),
    () => getU32(bytes, 6),
    () => getU64(bytes, 2),
    () => getU32(bytes, -1),
    () => getU32(bytes, Number.NaN),
    () => putU32(new Uint8Array(3), 0, 1),
    () => putU64(new Uint8Array(8), 1, 1),
  ]) {
    assert.throws(call, RangeError);
  }
});
