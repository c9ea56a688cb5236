import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import type { PlainRequest } from '../../src/client/session.ts';
import { chunk, cookies, fakeSession, simple, turn } from './fake-transport.ts';
import { be, hex } from './script.ts';

const flush: PlainRequest = { command: 3, offset: 0, length: 0 };

test('a request is these bytes', async () => {
  const { transport, session } = fakeSession();
  const from = hex('0102030405');
  const done = session.write(from, 0x1_2345_6789_0);
  await turn();
  const [, cookie] = /^25609513 0000 0001 (\w{16}) 0000001234567890 00000005 0102030405$/.exec(
    transport.sent.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{16})(.{16})(.{8})/, '$1 $2 $3 $4 $5 $6 '),
  ) as RegExpExecArray;
  transport.feed(simple(cookie as string));
  await done;
});

test('requests of one turn, also those of continuations, go out in one batch', async () => {
  const { transport, session } = fakeSession();
  const buffers = Array.from({ length: 10 }, () => Buffer.alloc(16));
  const twice = buffers.map((buffer) => session.read(buffer, 0).then(async () => session.read(buffer, 16)));
  await turn();
  assert.equal(transport.batches.length, 1);
  const data = (cookie: string, offset: number): Buffer =>
    chunk(cookie, 1, 1, be(offset, 8) + '55'.repeat(16));
  transport.feed(Buffer.concat(cookies(transport.sent).map((cookie) => data(cookie, 0))));
  await turn();
  assert.equal(transport.batches.length, 2);
  assert.equal(transport.batches[1]?.length, 10 * 28);
  transport.feed(Buffer.concat(cookies(transport.batches[1] as Buffer).map((cookie) => data(cookie, 16))));
  await Promise.all(twice);
  assert.ok(buffers.every((buffer) => buffer.equals(Buffer.alloc(16, 0x55))));
});

test('no more than 128 requests are on the wire, and the others follow as answers come', async () => {
  const { transport, session } = fakeSession();
  const all = Promise.all(Array.from({ length: 3000 }, () => session.send(flush)));
  let answered = 0;
  while (answered < 3000) {
    await turn();
    const known = cookies(transport.sent);
    assert.ok(known.length - answered <= 128);
    assert.ok(known.length > answered);
    transport.feed(Buffer.concat(known.slice(answered, answered + 50).map((cookie) => simple(cookie))));
    answered = Math.min(answered + 50, known.length);
  }
  await all;
});

test('cookies in flight differ, and an old one is not taken for a new one', async () => {
  const { transport, session } = fakeSession();
  const first = session.send(flush);
  await turn();
  const [old] = cookies(transport.sent);
  transport.feed(simple(old as string));
  await first;
  const second = session.send(flush);
  await turn();
  transport.feed(simple(old as string));
  await assert.rejects(second, (error) => isDiskError(error, 'protocol'));
});

test('a server that shuts down gets its last answers taken, no new requests, and a farewell', async () => {
  const { transport, session } = fakeSession();
  const refused = session.send(flush);
  const answered = session.send(flush);
  await turn();
  const [first, second] = cookies(transport.sent) as [string, string];
  transport.feed(simple(first, 108));
  await assert.rejects(refused, (error) => isDiskError(error, 'closed'));
  await assert.rejects(session.send(flush), (error) => isDiskError(error, 'closed'));
  assert.equal(transport.hasEnded, false);
  transport.feed(simple(second));
  await answered;
  assert.equal(transport.hasEnded, true);
  assert.equal(
    transport.batches.at(-1)?.toString('hex'),
    `25609513 0000 0002 ${'00'.repeat(20)}`.replaceAll(' ', ''),
  );
});

test('a write answered early keeps the buffer until the socket has done with it', async () => {
  for (const end of ['release', 'hangUp'] as const) {
    const { transport, session } = fakeSession();
    transport.sendsAtOnce = false;
    let settled = false;
    const write = session.write(Buffer.alloc(4), 0).finally(() => {
      settled = true;
    });
    await turn();
    transport.feed(simple(transport.sent.subarray(8, 16).toString('hex'), 1));
    await turn();
    assert.equal(settled, false);
    transport[end]();
    await assert.rejects(write, (error) => isDiskError(error, 'denied'));
  }
});

test('when the connection is lost, everything in flight, waiting and later fails with where and what', async () => {
  const { transport, session } = fakeSession();
  const calls = Array.from({ length: 200 }, (_, index) => session.read(Buffer.alloc(8), index * 8));
  await turn();
  calls.push(session.read(Buffer.alloc(8), 1600));
  transport.hangUp();
  const results = await Promise.allSettled([...calls, session.read(Buffer.alloc(8), 1608)]);
  for (const [index, result] of results.entries()) {
    assert.ok(result.status === 'rejected' && isDiskError(result.reason, 'closed'));
    assert.deepEqual(result.reason.context, { op: 'read', offset: index * 8 });
  }
});

test('closing says DISC, fails what is in flight, and closing again is the same end', async () => {
  const { transport, session } = fakeSession();
  const read = session.read(Buffer.alloc(8), 0);
  await turn();
  const closed = session.close();
  await assert.rejects(read, (error) => isDiskError(error, 'closed'));
  await closed;
  await session.close();
  assert.equal(transport.batches.length, 2);
  assert.equal(transport.batches[1]?.readUInt16BE(6), 2);
  await assert.rejects(session.send(flush), (error) => isDiskError(error, 'closed'));
});
