/**
 * What the specification says a client MUST and SHOULD do, and a hostile server can try it on: a row each, with the
 * section it stands in. What chunks must keep is in replies.test.ts, TLS in tls/accept.test.ts.
 *
 * Spec: proto.md
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, isDiskError } from '@strata/block';
import { openExport } from '../../src/client/handshake.ts';
import { chunk, cookies, fakeSession, simple, turn } from './fake-transport.ts';
import { be, converse, hex, reply, server, utf8 } from './script.ts';

const unsupported = 0x8000_0001;
const exportInfo = (flags: number): Buffer => reply(7, 3, `0000 ${be(4096, 8)} ${be(flags, 2)}`);
const go = (flags = 1): Buffer => Buffer.concat([exportInfo(flags), reply(7, 1)]);
const plain = { 8: reply(8, unsupported), 7: go() };
const wanted = { exportName: 'e', contexts: ['base:allocation'] };

/** The numbers of the options that the client sends to such a server, and how it goes. */
function haggle(
  answers: Readonly<Record<number, Buffer>>,
  flags = 3,
): { sent: readonly number[]; code: ErrorCode | undefined } {
  const sent: number[] = [];
  const answer = server(flags, answers);
  let code: ErrorCode | undefined;
  try {
    converse(openExport(wanted), (message) => {
      if (message.length >= 16) sent.push(message.readUInt32BE(8));
      return answer(message);
    });
  } catch (error) {
    assert.ok(isDiskError(error), String(error));
    code = error.code;
  }
  return { sent, code };
}

const abort = 2;
const rows: readonly (readonly [
  section: string,
  claim: string,
  answers: Readonly<Record<number, Buffer>>,
  sent: readonly number[],
  code: ErrorCode | undefined,
])[] = [
  ['NBD_OPT_GO', 'it is preferred to EXPORT_NAME', plain, [11, 8, 7], undefined],
  [
    'NBD_OPT_GO',
    'a server that does not know it is asked by EXPORT_NAME',
    { ...plain, 7: reply(7, unsupported), 1: hex(`${be(4096, 8)} 0001`) },
    [11, 8, 7, 1],
    undefined,
  ],
  [
    'NBD_OPT_GO',
    'any other error ends with a soft disconnect',
    { ...plain, 7: reply(7, 0x8000_0002) },
    [11, 8, 7, abort],
    'denied',
  ],
  [
    'NBD_OPT_GO',
    'success without a size is a violation',
    { ...plain, 7: reply(7, 1) },
    [11, 8, 7],
    'protocol',
  ],
  [
    'NBD_OPT_SET_META_CONTEXT',
    'it is not asked for without structured replies',
    plain,
    [11, 8, 7],
    undefined,
  ],
  [
    'NBD_OPT_SET_META_CONTEXT',
    'a server without it is used without contexts',
    { ...plain, 8: reply(8, 1), 10: reply(10, unsupported) },
    [11, 8, 10, 7],
    undefined,
  ],
  [
    'NBD_OPT_SET_META_CONTEXT',
    'a context that was not asked for is a violation',
    { ...plain, 8: reply(8, 1), 10: reply(10, 4, `${be(1, 4)} ${utf8('x-y:z')}`) },
    [11, 8, 10],
    'protocol',
  ],
  [
    'NBD_OPT_EXTENDED_HEADERS',
    'where they are granted, structured replies are not asked for',
    { ...plain, 11: reply(11, 1), 10: reply(10, 1) },
    [11, 10, 7],
    undefined,
  ],
  [
    'Termination of the session during option haggling',
    'ERR_SHUTDOWN is followed by a soft disconnect',
    { ...plain, 8: reply(8, 0x8000_0007) },
    [11, 8, abort],
    'closed',
  ],
  [
    'Client-side requirements',
    'ERR_TLS_REQD of a client without TLS ends the session',
    { ...plain, 8: reply(8, 0x8000_0005) },
    [11, 8, abort],
    'denied',
  ],
  [
    'Option reply types',
    'an unknown error is an error',
    { ...plain, 7: reply(7, 0x8000_00ff) },
    [11, 8, 7, abort],
    'io',
  ],
  [
    'Option reply types',
    'a text with control characters is taken',
    { ...plain, 7: reply(7, 0x8000_0006, '1b5b') },
    [11, 8, 7, abort],
    'not-found',
  ],
  [
    'Fixed newstyle negotiation',
    'a reply with a wrong magic number is a violation',
    { ...plain, 8: Buffer.alloc(20) },
    [11, 8],
    'protocol',
  ],
  [
    'Transmission flags',
    'a server that does not set the lowest bit is refused',
    { ...plain, 7: go(0) },
    [11, 8, 7],
    'protocol',
  ],
  [
    'Transmission flags',
    'bits that are not known are ignored',
    { ...plain, 7: go(0xe001) },
    [11, 8, 7],
    undefined,
  ],
  [
    'Size constraints',
    'a minimum above 64 KiB is a violation',
    {
      ...plain,
      7: Buffer.concat([reply(7, 3, `0003 ${be(131_072, 4)} ${be(131_072, 4)} ${be(2 ** 25, 4)}`), go()]),
    },
    [11, 8, 7],
    'protocol',
  ],
];

for (const [section, claim, answers, sent, code] of rows) {
  test(`"${section}": ${claim}`, () => {
    assert.deepEqual(haggle(answers), { sent, code });
  });
}

test('"Newstyle negotiation": a server that is not fixed is sent EXPORT_NAME alone', () => {
  const zeros = '00'.repeat(124);
  assert.deepEqual(haggle({ 1: hex(`${be(4096, 8)} 0001 ${zeros}`) }, 0), { sent: [1], code: undefined });
});

test('"Terminating the transmission phase": ESHUTDOWN is followed by DISC, and nothing more is asked', async () => {
  const { transport, session } = fakeSession();
  const flushed = session.send({ command: 3, offset: 0, length: 0 });
  await turn();
  const [cookie = ''] = cookies(transport.sent);
  transport.feed(chunk(cookie, 1, 0x8001, `${be(108, 4)} 0000`));
  await assert.rejects(flushed, (error) => isDiskError(error, 'closed'));
  await assert.rejects(session.send({ command: 3, offset: 0, length: 0 }), (error) =>
    isDiskError(error, 'closed'),
  );
  assert.equal(transport.batches.at(-1)?.readUInt16BE(6), 2);
  assert.equal(transport.hasEnded, true);
});

test('"Simple reply message": a cookie that no request has is a violation', async () => {
  const { transport, session } = fakeSession();
  const flushed = session.send({ command: 3, offset: 0, length: 0 });
  await turn();
  transport.feed(simple('ffffffffffffffff'));
  await assert.rejects(flushed, (error) => isDiskError(error, 'protocol'));
});

test('"Structured reply types": an unknown error chunk fails the request and not the connection', async () => {
  const { transport, session } = fakeSession();
  const flushed = session.send({ command: 3, offset: 0, length: 0 });
  await turn();
  const [cookie = ''] = cookies(transport.sent);
  transport.feed(chunk(cookie, 1, 0x8123, `${be(5, 4)} 0001 61 ffff`));
  await assert.rejects(flushed, (error) => isDiskError(error, 'io'));
  assert.equal(transport.destroyed, undefined);
});

test('"Structured reply types": an unknown chunk that is no error breaks the connection', async () => {
  const { transport, session } = fakeSession();
  const flushed = session.send({ command: 3, offset: 0, length: 0 });
  await turn();
  const [cookie = ''] = cookies(transport.sent);
  transport.feed(chunk(cookie, 1, 0x123));
  await assert.rejects(flushed, (error) => isDiskError(error, 'protocol'));
  assert.ok(transport.destroyed !== undefined);
});
