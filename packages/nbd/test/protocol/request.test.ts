import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  newRequestHeader,
  readExtendedRequestHeader,
  readRequestHeader,
  writeExtendedRequestHeader,
  writeRequestHeader,
} from '../../src/protocol/request.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
const cookie = { cookieHigh: 0xfedcba98, cookieLow: 0x76543210 };

const request = hex('25609513 0001 0006 fedcba9876543210 0000000200000001 ffffffff');

test('a request header is 28 bytes: magic, flags, command, cookie, offset, length', () => {
  const header = newRequestHeader();
  assert.equal(readRequestHeader(Buffer.concat([Buffer.alloc(3), request]), 3, header), true);
  const expected = { flags: 1, command: 6, ...cookie, offset: 2 ** 33 + 1, length: 0xffffffff };
  assert.deepEqual(header, { ...expected, offsetHigh: 2, offsetLow: 1 });
  const written = Buffer.alloc(28);
  writeRequestHeader(written, 0, expected);
  assert.deepEqual(written, request);
});

test('an extended request header is 32 bytes: the same with a length of 64 bits', () => {
  const extended = hex('21e41c71 0020 0006 fedcba9876543210 0000000200000001 0000000100000002');
  const header = newRequestHeader();
  assert.equal(readExtendedRequestHeader(extended, 0, header), true);
  const expected = { flags: 32, command: 6, ...cookie, offset: 2 ** 33 + 1, length: 2 ** 32 + 2 };
  assert.deepEqual(header, { ...expected, offsetHigh: 2, offsetLow: 1 });
  const written = Buffer.alloc(32);
  writeExtendedRequestHeader(written, 0, expected);
  assert.deepEqual(written, extended);
  assert.equal(readExtendedRequestHeader(Buffer.concat([request, Buffer.alloc(4)]), 0, header), false);
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
