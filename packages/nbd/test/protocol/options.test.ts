import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import {
  decodeGoRequest,
  decodeInfo,
  decodeMetaContextReply,
  decodeMetaContextRequest,
  decodeServerReply,
  encodeGoRequest,
  encodeInfo,
  encodeMetaContextReply,
  encodeMetaContextRequest,
  encodeServerReply,
} from '../../src/protocol/options.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
const ascii = (text: string): string => Buffer.from(text).toString('hex');
const protocolError = (error: unknown): boolean => isDiskError(error, 'protocol');

test('GO data is a counted name and counted information requests', () => {
  const data = hex(`00000004 ${ascii('disk')} 0002 0003 0001`);
  assert.deepEqual(encodeGoRequest({ name: 'disk', infos: [3, 1] }), data);
  assert.deepEqual(decodeGoRequest(data), { name: 'disk', infos: [3, 1] });
});

for (const [claim, data] of [
  ['a name longer than the option', `00000005 ${ascii('disk')}`],
  ['a name length of 32 bits', `ffffffff ${ascii('disk')} 0000`],
  ['no count', `00000004 ${ascii('disk')}`],
  ['fewer information requests than announced', `00000004 ${ascii('disk')} 0002 0003`],
  ['more information requests than announced', `00000004 ${ascii('disk')} 0001 0003 0001`],
  ['half an information request', `00000004 ${ascii('disk')} 0001 03`],
  ['a NUL in the name', '00000004 61006263 0000'],
  ['a name that is not UTF-8', '00000002 c328 0000'],
  ['a name of 4097 bytes', `00001001 ${'61'.repeat(4097)} 0000`],
] as const) {
  test(`GO data with ${claim} is refused`, () => {
    assert.throws(() => decodeGoRequest(hex(data)), protocolError);
  });
}

test('a name of 4096 bytes is taken', () => {
  const { name } = decodeGoRequest(hex(`00001000 ${'61'.repeat(4096)} 0000`));
  assert.equal(name, 'a'.repeat(4096));
});

test('meta context data is a counted name and counted queries', () => {
  const data = hex(`00000001 64 00000002 00000005 ${ascii('base:')} 00000003 ${ascii('a:b')}`);
  assert.deepEqual(encodeMetaContextRequest({ name: 'd', queries: ['base:', 'a:b'] }), data);
  assert.deepEqual(decodeMetaContextRequest(data), { name: 'd', queries: ['base:', 'a:b'], count: 2 });
});

test('a meta context query that is longer than any name may be is passed over', () => {
  const data = hex(`00000000 00000002 00001001 ${'61'.repeat(4097)} 00000003 ${ascii('a:b')}`);
  assert.deepEqual(decodeMetaContextRequest(data).queries, ['a:b']);
});

for (const [claim, data] of [
  ['a query past the end', `00000000 00000001 00000005 ${ascii('base')}`],
  ['an overlong query past the end', `00000000 00000001 ffffffff ${ascii('base')}`],
  ['more queries announced than sent', `00000000 ffffffff 00000005 ${ascii('base:')}`],
  ['bytes after the last query', '00000000 00000000 00'],
] as const) {
  test(`meta context data with ${claim} is refused`, () => {
    assert.throws(() => decodeMetaContextRequest(hex(data)), protocolError);
  });
}

test('a SERVER reply is a counted name, and the description is the rest', () => {
  const data = hex(`00000002 6462 ${ascii('the base')}`);
  assert.deepEqual(encodeServerReply({ name: 'db', description: 'the base' }), data);
  assert.deepEqual(decodeServerReply(data), { name: 'db', description: 'the base' });
  assert.deepEqual(decodeServerReply(hex('00000002 6462')), { name: 'db', description: undefined });
  assert.throws(() => decodeServerReply(hex('00000003 6462')), protocolError);
});

test('INFO replies have the layouts of the specification', () => {
  const rows = [
    [{ type: 'export', size: 2 ** 40, flags: 0xded }, '0000 0000010000000000 0ded'],
    [{ type: 'name', name: 'db' }, '0001 6462'],
    [{ type: 'description', description: 'ä' }, '0002 c3a4'],
    [
      { type: 'block-size', minimum: 1, preferred: 4096, maximumPayload: 2 ** 25 },
      '0003 00000001 00001000 02000000',
    ],
  ] as const;
  for (const [info, bytes] of rows) {
    assert.deepEqual(encodeInfo(info), hex(bytes));
    assert.deepEqual(decodeInfo(hex(bytes)), info);
  }
});

test('an INFO reply of an unknown type is passed over, one of a wrong length is refused', () => {
  assert.deepEqual(decodeInfo(hex('1234 0102')), { type: 'unknown' });
  assert.throws(() => decodeInfo(hex('0000 0000010000000000 0ded 00')), protocolError);
  assert.throws(() => decodeInfo(hex('0003 00000001 00001000')), protocolError);
});

test('a META_CONTEXT reply is an identifier and a name', () => {
  const data = hex(`00000001 ${ascii('base:allocation')}`);
  assert.deepEqual(encodeMetaContextReply({ id: 1, name: 'base:allocation' }), data);
  assert.deepEqual(decodeMetaContextReply(data), { id: 1, name: 'base:allocation' });
});
