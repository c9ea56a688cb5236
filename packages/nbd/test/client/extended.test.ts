/** Extended headers in the client. Spec: proto.md of the branch extension-ext-header */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { openNbd } from '../../src/client/device.ts';
import { openExport } from '../../src/client/handshake.ts';
import { serving } from '../server/serving.ts';
import { testDisk } from '../server/test-disk.ts';
import { fakeSession, turn } from './fake-transport.ts';
import { be, converse, hex, reply, server } from './script.ts';

/** A chunk in reply to the request whose header is `request`. */
const chunk = (request: Buffer, flags: number, type: number, payload = '', offset?: string): Buffer => {
  const cookie = request.toString('hex', 8, 16);
  const at = offset ?? request.toString('hex', 16, 24);
  return hex(
    `6e8a278c ${be(flags, 2)} ${be(type, 2)} ${cookie} ${at} ${be(hex(payload).length, 8)} ${payload}`,
  );
};

test('our client and our server speak with extended headers, and ask about one context at a time', async () => {
  const disk = testDisk();
  disk.setKind(0, 65536, 'data', 2);
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using connection = await openNbd(serve.uri());
  assert.equal(connection.info.extendedHeaders, true);
  assert.equal(connection.info.flags & 0x1000, 0x1000);
  const run = await connection.contextAt('qemu:allocation-depth', 0, 1024 * 1024);
  assert.deepEqual(run, { offset: 0, length: 65536, flags: 2 });
  const extent = await connection.source.extentAt(0, 1024 * 1024);
  assert.deepEqual(extent, { offset: 0, length: 65536, kind: 'data', depth: 2 });
});

test('requests have 32 bytes, writes the flag for their payload, and a choice of contexts is a payload', async () => {
  const { transport, session } = fakeSession({ style: 'extended', flags: 0x1ded });
  session.write(Buffer.from('abc'), 2 ** 33).catch(() => undefined);
  session.send({ command: 6, offset: 0, length: 2 ** 40 }).catch(() => undefined);
  session.status(0, 2 ** 40, [9]).catch(() => undefined);
  session.status(0, 4096, [3, 9]).catch(() => undefined);
  await turn();
  const digits = transport.sent.toString('hex').replaceAll(/(21e41c71.{8}).{16}/g, '$1_');
  assert.equal(
    digits,
    [
      '21e41c7100200001_00000002000000000000000000000003616263',
      '21e41c7100000006_00000000000000000000010000000000',
      '21e41c7100200007_0000000000000000000000000000000c000001000000000000000009',
      '21e41c7100000007_00000000000000000000000000001000',
    ].join(''),
  );
  void session.close();
});

const violations: readonly (readonly [string, (request: Buffer) => Buffer])[] = [
  ['a simple reply', (request) => hex(`67446698 00000000 ${request.toString('hex', 8, 16)}`)],
  ['a structured chunk', (request) => hex(`668e33ef 0001 0000 ${request.toString('hex', 8, 16)} 00000000`)],
  ['another offset than that of the request', (request) => chunk(request, 1, 0, '', be(1, 8))],
  ['a compact block status', (request) => chunk(request, 1, 5, `${be(3, 4)} ${be(4096, 4)} ${be(0, 4)}`)],
  [
    'a block status that was not asked for',
    (request) => chunk(request, 1, 6, `${be(3, 4)} ${be(1, 4)} ${be(4096, 8)} ${be(0, 8)}`),
  ],
  [
    'an extent of no bytes (CVE-2023-5871)',
    (request) => chunk(request, 1, 6, `${be(9, 4)} ${be(1, 4)} ${be(0, 8)} ${be(0, 8)}`),
  ],
  [
    'more extents than there are (CVE-2023-5871)',
    (request) => chunk(request, 1, 6, `${be(9, 4)} ${be(2, 4)} ${be(4096, 8)} ${be(0, 8)}`),
  ],
  ['no block status', (request) => chunk(request, 1, 0)],
];

for (const [claim, answer] of violations) {
  test(`${claim} breaks the protocol`, async () => {
    const { transport, session } = fakeSession({ style: 'extended', flags: 0x1ded });
    const asked = session.status(4096, 4096, [9]);
    await turn();
    transport.feed(answer(transport.sent));
    await assert.rejects(asked, (error) => isDiskError(error, 'protocol'));
    assert.ok(transport.destroyed !== undefined);
  });
}

test('a server that has extended headers and does not know GO breaks the protocol', () => {
  const answers = { 11: reply(11, 1), 7: reply(7, 0x8000_0001) };
  assert.throws(
    () => converse(openExport({ exportName: '', contexts: [] }), server(3, answers)),
    (error) => isDiskError(error, 'protocol'),
  );
});
