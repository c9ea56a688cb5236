import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, isDiskError } from '@strata/block';
import { chunk, cookies, fakeSession, simple, turn } from './fake-transport.ts';
import { be } from './script.ts';

const errors: readonly (readonly [number, ErrorCode, RegExp])[] = [
  [1, 'denied', /Operation not permitted/],
  [5, 'io', /Input\/output error/],
  [12, 'io', /Cannot allocate memory/],
  [22, 'invalid', /Invalid argument/],
  [28, 'no-space', /No space left on device/],
  [75, 'limit', /Value too large/],
  [95, 'not-supported', /Operation not supported/],
  [108, 'closed', /shutting down/],
  [4711, 'invalid', /Invalid argument/],
];

for (const [errno, code, words] of errors) {
  test(`error ${errno} is '${code}', with the offset, the operation and the server's words`, async () => {
    const { transport, session } = fakeSession();
    const read = session.read(Buffer.alloc(512), 8192);
    await turn();
    const [cookie] = cookies(transport.sent) as [string];
    transport.feed(chunk(cookie, 1, 0x8001, `${be(errno, 4)} 0005 6f756368 0a`));
    await assert.rejects(read, (error) => {
      assert.ok(isDiskError(error, code), String(error));
      assert.match(error.message, words);
      assert.match(error.message, /\(server reported: ouch\\u\{a\}\)$/);
      assert.deepEqual(error.context, { op: 'read', offset: 8192 });
      return true;
    });
    assert.equal(transport.destroyed, undefined);
  });
}

test('a simple error answers any request, and the connection goes on', async () => {
  for (const structured of [true, false]) {
    const { transport, session } = fakeSession({ style: structured ? 'structured' : 'simple' });
    const write = session.write(Buffer.alloc(4), 0);
    await turn();
    transport.feed(simple(transport.sent.subarray(8, 16).toString('hex'), 28));
    await assert.rejects(write, (error) => isDiskError(error, 'no-space'));
    assert.equal(session.lost, undefined);
  }
});

test('an error at an offset, and an error of a type from the future, fail a read after its other chunks', async () => {
  for (const [type, payload, offset] of [
    [0x8002, `00000005 0000 ${be(516, 8)}`, 516],
    [0x80ff, '00000005 0000 ffffffffffff', 512],
  ] as const) {
    const { transport, session } = fakeSession();
    const read = session.read(Buffer.alloc(8), 512);
    await turn();
    const [cookie] = cookies(transport.sent) as [string];
    transport.feed(chunk(cookie, 0, type, payload));
    transport.feed(chunk(cookie, 0, 1, `${be(512, 8)} 01020304`));
    transport.feed(chunk(cookie, 1, 0));
    await assert.rejects(read, (error) => isDiskError(error, 'io') && error.context.offset === offset);
    assert.equal(session.lost, undefined);
  }
});
