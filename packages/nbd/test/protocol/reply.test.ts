import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import {
  decodeErrorPayload,
  encodeErrorPayload,
  newReplyHeader,
  readOffset,
  readReplyHeader,
  writeChunkHeader,
  writeChunkHeaderOf,
  writeOffset,
  writeSimpleReply,
} from '../../src/protocol/reply.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
const protocolError = (error: unknown): boolean => isDiskError(error, 'protocol');
const cookie = { cookieHigh: 0xfedcba98, cookieLow: 0x76543210 };

test('a simple reply is 16 bytes', () => {
  const reply = hex('67446698 00000016 fedcba9876543210');
  const written = Buffer.alloc(16);
  writeSimpleReply(written, 0, 22, cookie);
  assert.deepEqual(written, reply);
  const header = newReplyHeader();
  assert.equal(readReplyHeader(reply, 0, 15, header), 0);
  assert.equal(readReplyHeader(reply, 0, 16, header), 16);
  assert.deepEqual(header, {
    style: 'simple',
    error: 22,
    flags: 0,
    type: 0,
    ...cookie,
    offset: 0,
    length: 0,
  });
});

test('a structured chunk header is 20 bytes', () => {
  const chunk = hex('668e33ef 0001 8001 fedcba9876543210 00000009');
  const written = Buffer.alloc(20);
  writeChunkHeader(written, 0, 1, 0x8001, cookie, 9);
  assert.deepEqual(written, chunk);
  const header = newReplyHeader();
  assert.equal(readReplyHeader(chunk, 0, 19, header), 0);
  assert.equal(readReplyHeader(chunk, 0, 20, header), 20);
  assert.deepEqual(header, {
    style: 'structured',
    error: 0,
    flags: 1,
    type: 0x8001,
    ...cookie,
    offset: 0,
    length: 9,
  });
});

test('an extended chunk header is 32 bytes, with the offset of the request', () => {
  const chunk = hex('6e8a278c 0001 0006 fedcba9876543210 ffffffff00000001 0000000000000018');
  const written = Buffer.alloc(32);
  const request = { ...cookie, offsetHigh: 0xffffffff, offsetLow: 1 };
  assert.equal(writeChunkHeaderOf('extended', written, 0, 1, 6, request, 24), 32);
  assert.deepEqual(written, chunk);
  const header = newReplyHeader();
  assert.equal(readReplyHeader(chunk, 0, 31, header), 0);
  assert.equal(readReplyHeader(chunk, 0, 32, header), 32);
  const offset = 0xffffffff * 2 ** 32 + 1;
  assert.deepEqual(header, { style: 'extended', error: 0, flags: 1, type: 6, ...cookie, offset, length: 24 });
});

test('a reply with a wrong magic number is refused', () => {
  assert.throws(
    () => readReplyHeader(hex(`25609513 ${'00'.repeat(24)}`), 0, 28, newReplyHeader()),
    protocolError,
  );
});

test('offsets above 32 bits keep both halves', () => {
  const bytes = Buffer.alloc(8);
  writeOffset(bytes, 0, Number.MAX_SAFE_INTEGER);
  assert.deepEqual(bytes, hex('001fffffffffffff'));
  assert.equal(readOffset(bytes, 0), Number.MAX_SAFE_INTEGER);
});

test('an error chunk holds a number and a counted text, and its offset form an offset behind them', () => {
  assert.deepEqual(encodeErrorPayload(5, 'ab'), hex('00000005 0002 6162'));
  assert.deepEqual(decodeErrorPayload(hex('00000005 0002 6162'), 0x8001), {
    error: 5,
    message: 'ab',
    offset: undefined,
  });
  const withOffset = decodeErrorPayload(hex('0000001c 0001 61 0000000000001000'), 0x8002);
  assert.deepEqual(withOffset, { error: 28, message: 'a', offset: 4096 });
  assert.equal(decodeErrorPayload(hex('0000001c 0001 61 00ff'), 0x80ff).error, 28);
  // The length of the text is no more than the chunk's, and may be less.
  assert.equal(decodeErrorPayload(hex('00000005 0001 6162'), 0x8001).message, 'a');
  assert.deepEqual(encodeErrorPayload(28, 'a', 4096), hex('0000001c 0001 61 0000000000001000'));
});

for (const [claim, payload, type] of [
  ['no error number', '00000000 0000', 0x8001],
  ['a text longer than the chunk', '00000005 0003 6162', 0x8001],
  ['no offset', '00000005 0001 61', 0x8002],
  ['only a number', '00000005', 0x8001],
] as const) {
  test(`an error chunk with ${claim} is refused`, () => {
    assert.throws(() => decodeErrorPayload(hex(payload), type), protocolError);
  });
}
