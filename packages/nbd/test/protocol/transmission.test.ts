import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { codeOfErrno, errnoName, errnoOfCode } from '../../src/errno.ts';
import { decodeBlockStatus, writeStatusExtent } from '../../src/protocol/extents.ts';
import {
  decodeErrorPayload,
  encodeErrorPayload,
  newReplyHeader,
  readOffset,
  readReplyHeader,
  writeChunkHeader,
  writeOffset,
  writeSimpleReply,
} from '../../src/protocol/reply.ts';
import { newRequestHeader, readRequestHeader, writeRequestHeader } from '../../src/protocol/request.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
const protocolError = (error: unknown): boolean => isDiskError(error, 'protocol');
const cookie = { cookieHigh: 0xfedcba98, cookieLow: 0x76543210 };

const request = hex('25609513 0001 0006 fedcba9876543210 0000000200000001 ffffffff');

test('a request header is 28 bytes: magic, flags, command, cookie, offset, length', () => {
  const header = newRequestHeader();
  assert.equal(readRequestHeader(Buffer.concat([Buffer.alloc(3), request]), 3, header), true);
  const expected = { flags: 1, command: 6, ...cookie, offset: 2 ** 33 + 1, length: 0xffffffff };
  assert.deepEqual(header, expected);
  const written = Buffer.alloc(28);
  writeRequestHeader(written, 0, expected);
  assert.deepEqual(written, request);
});

test('a request with a wrong magic number is told, and the header stays as it was', () => {
  const header = newRequestHeader();
  assert.equal(readRequestHeader(hex(`25609514 ${'ff'.repeat(24)}`), 0, header), false);
  assert.deepEqual(header, newRequestHeader());
});

test('an offset of 64 bits is never decoded to something small', () => {
  const header = newRequestHeader();
  readRequestHeader(hex(`25609513 0000 0000 ${'00'.repeat(8)} ffffffffffffffff 00000001`), 0, header);
  assert.ok(header.offset > Number.MAX_SAFE_INTEGER);
});

test('a simple reply is 16 bytes', () => {
  const reply = hex('67446698 00000016 fedcba9876543210');
  const written = Buffer.alloc(16);
  writeSimpleReply(written, 0, 22, cookie);
  assert.deepEqual(written, reply);
  const header = newReplyHeader();
  assert.equal(readReplyHeader(reply, 0, 15, header), 0);
  assert.equal(readReplyHeader(reply, 0, 16, header), 16);
  assert.deepEqual(header, { structured: false, error: 22, flags: 0, type: 0, ...cookie, length: 0 });
});

test('a structured chunk header is 20 bytes', () => {
  const chunk = hex('668e33ef 0001 8001 fedcba9876543210 00000009');
  const written = Buffer.alloc(20);
  writeChunkHeader(written, 0, 1, 0x8001, cookie, 9);
  assert.deepEqual(written, chunk);
  const header = newReplyHeader();
  assert.equal(readReplyHeader(chunk, 0, 19, header), 0);
  assert.equal(readReplyHeader(chunk, 0, 20, header), 20);
  assert.deepEqual(header, { structured: true, error: 0, flags: 1, type: 0x8001, ...cookie, length: 9 });
});

test('a reply with a wrong magic number is refused', () => {
  assert.throws(() => readReplyHeader(request, 0, 28, newReplyHeader()), protocolError);
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
});

for (const [claim, payload, type] of [
  ['no error number', '00000000 0000', 0x8001],
  ['a text longer than the chunk', '00000005 0003 6162', 0x8001],
  ['bytes after the text', '00000005 0001 6162', 0x8001],
  ['no offset', '00000005 0001 61', 0x8002],
  ['only a number', '00000005', 0x8001],
] as const) {
  test(`an error chunk with ${claim} is refused`, () => {
    assert.throws(() => decodeErrorPayload(hex(payload), type), protocolError);
  });
}

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

test('failures of the disk go out as the numbers the specification names', () => {
  assert.equal(errnoOfCode['read-only'], 1);
  assert.equal(errnoOfCode.io, 5);
  assert.equal(errnoOfCode.invalid, 22);
  assert.equal(errnoOfCode['no-space'], 28);
  assert.equal(errnoOfCode.closed, 108);
});

test('numbers come in as codes, and unknown ones as if they were EINVAL', () => {
  const codes = [1, 5, 12, 22, 28, 75, 95, 108, 30, 0xffffffff].map(codeOfErrno);
  const expected = ['denied', 'io', 'io', 'invalid', 'no-space', 'limit', 'not-supported', 'closed'];
  assert.deepEqual(codes, [...expected, 'invalid', 'invalid']);
  assert.deepEqual([28, 30].map(errnoName), ['ENOSPC', 'error 30']);
});
