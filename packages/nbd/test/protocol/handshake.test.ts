import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import {
  decodeClientFlags,
  decodeExportNameReply,
  decodeGreeting,
  decodeOptionHeader,
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeExportNameReply,
  encodeGreeting,
  encodeOption,
  encodeOptionReply,
} from '../../src/protocol/handshake.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
const protocolError = (error: unknown): boolean => isDiskError(error, 'protocol');

const greeting = hex('4e42444d41474943 49484156454f5054 0003');
const oldstyle = hex('4e42444d41474943 0000420281861253 0000000000100000 0000');

test('a greeting is NBDMAGIC, IHAVEOPT and 16 bits of flags', () => {
  assert.deepEqual(encodeGreeting(3), greeting);
  assert.deepEqual(decodeGreeting(greeting), { style: 'newstyle', flags: 3 });
});

test('an oldstyle greeting is told apart from a stranger', () => {
  assert.deepEqual(decodeGreeting(oldstyle), { style: 'oldstyle' });
  assert.throws(() => decodeGreeting(hex('4e42444d41474943 0102030405060708 0003')), protocolError);
  assert.throws(() => decodeGreeting(Buffer.from('HTTP/1.1 400 Bad R')), protocolError);
});

test('client flags are 32 bits', () => {
  assert.deepEqual(encodeClientFlags(3), hex('00000003'));
  assert.equal(decodeClientFlags(hex('80000001')), 0x80000001);
});

test('an option is IHAVEOPT, its number, its length and its data', () => {
  const option = hex('49484156454f5054 00000001 00000003 616263');
  assert.deepEqual(encodeOption(1, Buffer.from('abc')), option);
  assert.deepEqual(decodeOptionHeader(option.subarray(0, 16)), { option: 1, length: 3 });
  assert.throws(() => decodeOptionHeader(hex('49484156454f5055 00000001 00000003')), protocolError);
});

test('an option reply carries the option it answers, even one of 32 bits', () => {
  const reply = hex('0003e889045565a9 ffffffff 80000001 00000002 6869');
  assert.deepEqual(encodeOptionReply(0xffffffff, 0x80000001, Buffer.from('hi')), reply);
  assert.deepEqual(decodeOptionReplyHeader(reply.subarray(0, 20)), {
    option: 0xffffffff,
    type: 0x80000001,
    length: 2,
  });
  assert.throws(
    () => decodeOptionReplyHeader(hex('0003e889045565a8 00000001 00000001 00000000')),
    protocolError,
  );
});

test('the reply to EXPORT_NAME is size, flags and 124 zeros unless they were waived', () => {
  const bytes = hex('0000000100000200 0103');
  assert.deepEqual(encodeExportNameReply({ size: 2 ** 32 + 512, flags: 0x103 }, { zeroes: false }), bytes);
  assert.deepEqual(
    encodeExportNameReply({ size: 2 ** 32 + 512, flags: 0x103 }, { zeroes: true }),
    Buffer.concat([bytes, Buffer.alloc(124)]),
  );
  assert.deepEqual(decodeExportNameReply(bytes), { size: 2 ** 32 + 512, flags: 0x103 });
});

test('an export above 2^53 - 1 bytes is refused as too large', () => {
  assert.equal(decodeExportNameReply(hex('001fffffffffffff 0001')).size, Number.MAX_SAFE_INTEGER);
  assert.throws(
    () => decodeExportNameReply(hex('0020000000000000 0001')),
    (error) => isDiskError(error, 'limit'),
  );
});
