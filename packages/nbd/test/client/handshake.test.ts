import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, isDiskError } from '@strata/block';
import { type Negotiated, openExport } from '../../src/client/handshake.ts';
import { be, converse, greeting, hex, reply, server, utf8 } from './script.ts';

const fixedNoZeroes = 3;
const ack = 1;
const unsupported = 0x80000001;

/** INFO replies to GO (option 7), of types 0 to 3, from their fields. */
const info = (data: string): Buffer => reply(7, 3, data);
const exportInfo = (size: number | bigint, flags: number): Buffer =>
  info(`0000 ${be(size, 8)} ${be(flags, 2)}`);
const blockSizes = (minimum: number, preferred: number, maximum: number): Buffer =>
  info(`0003 ${be(minimum, 4)} ${be(preferred, 4)} ${be(maximum, 4)}`);
const go = (...infos: readonly Buffer[]): Buffer => Buffer.concat([...infos, reply(7, ack)]);
const context = (id: number, name: string): Buffer => reply(10, 4, be(id, 4) + utf8(name));

const plain = { 8: reply(8, ack), 10: reply(10, ack), 7: go(exportInfo(1048576, 0x0001)) };
const open = (
  answers: Readonly<Record<number, Buffer>>,
  wanted = { exportName: 'e', contexts: ['base:allocation', 'x:y'] },
  flags = fixedNoZeroes,
) => converse<Negotiated>(openExport(wanted), server(flags, answers));

test('a whole negotiation sends these bytes and learns this', () => {
  const { result, sent } = open({
    8: reply(8, ack),
    10: Buffer.concat([context(7, 'base:allocation'), reply(10, ack)]),
    7: go(
      blockSizes(512, 4096, 0x2000000),
      info(`0001 ${utf8('E')}`),
      info(`0002 ${utf8('the disk')}`),
      info('0009 ffff'),
      exportInfo(1048576, 0x0ded),
    ),
  });
  assert.deepEqual(result, {
    size: 1048576,
    flags: 0x0ded,
    style: 'structured',
    blockSizes: { minimum: 512, preferred: 4096, maximumPayload: 33554432 },
    name: 'E',
    description: 'the disk',
    contexts: [{ id: 7, name: 'base:allocation' }],
  });
  assert.deepEqual(sent, [
    hex('00000003'),
    hex('49484156454f5054 0000000b 00000000'),
    hex('49484156454f5054 00000008 00000000'),
    hex(
      `49484156454f5054 0000000a 00000023 00000001 65 00000002 0000000f ${utf8('base:allocation')} 00000003 783a79`,
    ),
    hex('49484156454f5054 00000007 0000000d 00000001 65 0003 0001 0002 0003'),
  ]);
});

test('a server without structured replies is asked for no contexts and used all the same', () => {
  const { result, sent } = open({ ...plain, 8: reply(8, unsupported) });
  assert.equal(result.style, 'simple');
  assert.deepEqual(result.contexts, []);
  assert.equal(sent.length, 4);
});

test('a server that refuses contexts is used without them', () => {
  assert.deepEqual(open({ ...plain, 10: reply(10, unsupported) }).result.contexts, []);
});

test('contexts told before a refusal do not count', () => {
  const answer = Buffer.concat([context(0, 'base:allocation'), reply(10, 0x80000003)]);
  assert.deepEqual(open({ ...plain, 10: answer }).result.contexts, []);
});

test('a server that does not know GO is asked by EXPORT_NAME', () => {
  const answers = { ...plain, 7: reply(7, unsupported), 1: hex('0000000000100000 0003') };
  const { result, sent } = open(answers);
  assert.equal(result.size, 1048576);
  assert.equal(result.style, 'structured');
  assert.deepEqual(sent.at(-1), hex('49484156454f5054 00000001 00000001 65'));
});

test('a server that is not fixed newstyle is asked by EXPORT_NAME and nothing else', () => {
  const { result, sent } = open({ 1: hex(`0000000000100000 0003 ${'00'.repeat(124)}`) }, undefined, 0);
  assert.equal(result.size, 1048576);
  assert.deepEqual(sent, [hex('00000000'), hex('49484156454f5054 00000001 00000001 65')]);
});

test('of an old server the reserved zeros are read, so that the stream goes on at the right byte', () => {
  const short = hex(`0000000000100000 0003 ${'00'.repeat(123)}`);
  assert.throws(
    () => open({ 1: short }, undefined, 1),
    (error) => isDiskError(error, 'closed'),
  );
});

test('handshake flags that we do not know are not sent back', () => {
  assert.deepEqual(open(plain, undefined, 0xffff).sent[0], hex('00000003'));
});

test('flags that contradict the rest are dropped', () => {
  const fastZeroAndDf = go(exportInfo(0, 0x0001 | 0x0800 | 0x0080));
  assert.equal(open({ 8: reply(8, unsupported), 7: fastZeroAndDf }).result.flags, 0x0001);
});

test('the longest size that a number holds is taken', () => {
  assert.equal(open({ ...plain, 7: go(exportInfo(2n ** 53n - 1n, 1)) }).result.size, 2 ** 53 - 1);
});

const hostile: readonly (readonly [string, ErrorCode, Readonly<Record<number, Buffer>>])[] = [
  ['a size of 2^53', 'limit', { ...plain, 7: go(exportInfo(2n ** 53n, 1)) }],
  ['a size of 2^64 - 1 (CVE-2023-5215)', 'limit', { ...plain, 7: go(exportInfo(2n ** 64n - 1n, 1)) }],
  [
    'a size of 2^64 - 1 by EXPORT_NAME',
    'limit',
    { ...plain, 7: reply(7, unsupported), 1: hex(`${'ff'.repeat(8)}0001`) },
  ],
  ['GO agreed to without a size', 'protocol', { ...plain, 7: reply(7, ack) }],
  ['transmission flags without the lowest bit', 'protocol', { ...plain, 7: go(exportInfo(0, 0xfffe)) }],
  ['a size of 7 bytes', 'protocol', { ...plain, 7: go(info('0000 000000000000000001')) }],
  ['an INFO without a type', 'protocol', { ...plain, 7: go(info('00')) }],
  ['a name of 4097 bytes', 'protocol', { ...plain, 7: go(info(`0001 ${'61'.repeat(4097)}`)) }],
  ['a description that is not UTF-8', 'protocol', { ...plain, 7: go(info('0002 ff')) }],
  ['a description with a NUL', 'protocol', { ...plain, 7: go(info('0002 6100')) }],
  ['65 INFO replies', 'limit', { ...plain, 7: go(...Array.from({ length: 65 }, () => info('0009'))) }],
  ['a SERVER reply to GO', 'protocol', { ...plain, 7: reply(7, 2, '00000000') }],
  ['an unknown reply to GO', 'protocol', { ...plain, 7: reply(7, 99) }],
  ['an unknown reply to STRUCTURED_REPLY', 'protocol', { ...plain, 8: reply(8, 3, '0000') }],
  ['an ACK with data', 'protocol', { ...plain, 8: reply(8, ack, '00') }],
  ['a reply to another option', 'protocol', { ...plain, 8: reply(7, ack) }],
  [
    'a reply with a wrong magic number',
    'protocol',
    { ...plain, 8: hex(`0003e889045565aa ${'00'.repeat(12)}`) },
  ],
  [
    'a reply of 4 GiB (CVE-2017-2630)',
    'protocol',
    { ...plain, 8: hex('0003e889045565a9 00000008 00000001 ffffffff') },
  ],
  ['an error text of 4 GiB', 'protocol', { ...plain, 7: hex('0003e889045565a9 00000007 80000006 ffffffff') }],
  ['a context that was not asked for', 'protocol', { ...plain, 10: context(0, 'base:other') }],
  ['a context twice', 'protocol', { ...plain, 10: Buffer.concat([context(0, 'x:y'), context(1, 'x:y')]) }],
  [
    'an identifier twice',
    'protocol',
    { ...plain, 10: Buffer.concat([context(0, 'x:y'), context(0, 'base:allocation')]) },
  ],
  ['a context without an identifier', 'protocol', { ...plain, 10: reply(10, 4, '000000') }],
  ['a minimum block of 0', 'protocol', { ...plain, 7: go(exportInfo(0, 1), blockSizes(0, 4096, 65536)) }],
  ['a minimum block of 3', 'protocol', { ...plain, 7: go(exportInfo(0, 1), blockSizes(3, 4096, 65536)) }],
  [
    'a minimum block of 128 KiB',
    'protocol',
    { ...plain, 7: go(exportInfo(0, 1), blockSizes(131072, 131072, 131072)) },
  ],
  [
    'a preferred block below the minimum',
    'protocol',
    { ...plain, 7: go(exportInfo(0, 1), blockSizes(4096, 512, 65536)) },
  ],
  [
    'a preferred block of 5000',
    'protocol',
    { ...plain, 7: go(exportInfo(0, 1), blockSizes(512, 5000, 65536)) },
  ],
  [
    'a payload below the minimum block',
    'protocol',
    { ...plain, 7: go(exportInfo(0, 1), blockSizes(4096, 4096, 512)) },
  ],
  [
    'a size that is not whole blocks',
    'protocol',
    { ...plain, 7: go(exportInfo(1000, 1), blockSizes(512, 512, 65536)) },
  ],
  ['nothing after the greeting', 'closed', {}],
  ['the end of the connection after GO', 'closed', { ...plain, 7: Buffer.alloc(0) }],
];

for (const [claim, code, answers] of hostile) {
  test(`${claim} is refused with '${code}'`, () => {
    assert.throws(
      () => open(answers),
      (error) => isDiskError(error, code) || assert.fail(String(error)),
    );
  });
}

test('what is no NBD server is told apart from an oldstyle one', () => {
  const greets = (bytes: Buffer) => () =>
    converse(openExport({ exportName: '', contexts: [] }), (message) =>
      message.length === 0 ? bytes : Buffer.alloc(0),
    );
  assert.throws(greets(Buffer.from('SSH-2.0-OpenSSH_9.2p1\r\n')), (error) => isDiskError(error, 'protocol'));
  assert.throws(greets(hex(`4e42444d41474943 49484156454f5055 0003`)), (error) =>
    isDiskError(error, 'protocol'),
  );
  const oldstyle = hex(`4e42444d41474943 0000420281861253 0000000000100000 00010003 ${'00'.repeat(124)}`);
  const { result, sent } = greets(oldstyle)();
  assert.deepEqual([result.size, result.flags, result.style, sent], [0x100000, 3, 'simple', []]);
});

const refusals: readonly (readonly [number, ErrorCode, RegExp])[] = [
  [0x80000002, 'denied', /Denied by server/],
  [0x80000003, 'invalid', /Invalid parameters/],
  [0x80000004, 'not-supported', /lacks support/],
  [0x80000005, 'denied', /TLS negotiation required before option 7/],
  [0x80000006, 'not-found', /Requested export not available/],
  [0x80000007, 'closed', /shutting down/],
  [0x80000008, 'not-supported', /block sizes/],
  [0x80000009, 'limit', /Too big/],
  [0xffffffff, 'io', /0xffffffff/],
];

for (const [type, code, words] of refusals) {
  test(`GO refused with 0x${type.toString(16)} is '${code}', with the server's words made harmless`, () => {
    let last: Buffer = Buffer.alloc(0);
    const answer = server(fixedNoZeroes, { ...plain, 7: reply(7, type, utf8('no \x1b[31m"x"\n')) });
    const attempt = () =>
      converse(openExport({ exportName: 'e', contexts: [] }), (message) => {
        last = message;
        return answer(message);
      });
    assert.throws(attempt, (error) => {
      assert.ok(isDiskError(error, code), String(error));
      assert.match(error.message, words);
      assert.ok(error.message.endsWith('(server reported: no \\u{1b}[31m"x"\\u{a})'), error.message);
      return true;
    });
    assert.deepEqual(
      last,
      hex('49484156454f5054 00000002 00000000'),
      'the client says ABORT before it leaves',
    );
  });
}

for (const option of [8, 10]) {
  for (const [type, code] of [
    [0x80000005, 'denied'],
    [0x80000007, 'closed'],
  ] as const) {
    test(`option ${option} refused with 0x${type.toString(16)} ends the negotiation`, () => {
      assert.throws(
        () => open({ ...plain, [option]: reply(option, type) }),
        (error) => isDiskError(error, code),
      );
    });
  }
}

test('an error text of 64 KiB is cut, and an error text that is not UTF-8 is borne', () => {
  for (const text of ['61'.repeat(65536), 'ff'.repeat(4096)]) {
    assert.throws(
      () => open({ ...plain, 7: reply(7, 0x80000006, text) }),
      (error) => isDiskError(error, 'not-found') && error.message.length < 400,
    );
  }
});

test('EXPORT_NAME for an export that is not there says what may be wrong', () => {
  assert.throws(
    () => open({}, undefined, 0),
    (error) => isDiskError(error, 'closed') && /may not exist/.test(error.message),
  );
});

test('a stream cut after any byte of a negotiation ends it with closed', () => {
  const answers: Readonly<Record<number, Buffer>> = {
    8: reply(8, ack),
    10: Buffer.concat([context(7, 'base:allocation'), reply(10, ack)]),
    7: go(exportInfo(1048576, 1), info(`0001 ${utf8('E')}`)),
  };
  const whole = greeting(3).length + Object.values(answers).reduce((sum, bytes) => sum + bytes.length, 0);
  for (let left = 0; left < whole; left++) {
    let rest = left;
    const cut = (message: Buffer): Buffer => {
      const bytes = server(3, answers)(message).subarray(0, rest);
      rest -= bytes.length;
      return bytes;
    };
    const wanted = { exportName: 'e', contexts: ['base:allocation'] };
    assert.throws(
      () => converse(openExport(wanted), cut),
      (error) => isDiskError(error, 'closed'),
      `${left} bytes`,
    );
  }
});

test('CVE-2021-20286: every reply to every option is taken or refused, and none is an exception', () => {
  const types = [0, 1, 2, 3, 4, 5, 0x7fffffff, 0x80000000, ...refusals.map(([type]) => type)];
  const payloads = [
    '',
    '00',
    '0000',
    '00000000',
    '00000001 61',
    '0003 00000200 00001000 02000000',
    'ff'.repeat(300),
  ];
  for (const option of [8, 10, 7]) {
    for (const type of types) {
      for (const payload of payloads) {
        const answer = Buffer.concat([reply(option, type, payload), reply(option, ack)]);
        try {
          open({ ...plain, [option]: answer });
        } catch (error) {
          assert.ok(isDiskError(error), `option ${option}, type ${type}: ${error}`);
        }
      }
    }
  }
});
