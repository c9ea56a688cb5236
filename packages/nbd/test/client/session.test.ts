import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, isDiskError } from '@strata/block';
import fc from 'fast-check';
import type { PlainRequest, Session } from '../../src/client/session.ts';
import { chunk, cookies, fakeSession, simple, turn } from './fake-transport.ts';
import { be, hex } from './script.ts';

const flush: PlainRequest = { command: 3, offset: 0, length: 0 };
const status: PlainRequest = { command: 7, offset: 4096, length: 65536 };

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

test('chunks in any order, holes and other replies between them make one read', async () => {
  const { transport, session } = fakeSession();
  const into = Buffer.alloc(12, 0xee);
  const other = session.send(flush);
  const read = session.read(into, 100);
  await turn();
  const [flushed, cookie] = cookies(transport.sent) as [string, string];
  transport.feed(
    Buffer.concat([
      chunk(cookie, 0, 2, `${be(108, 8)} 00000004`),
      chunk(cookie, 0, 1, `${be(102, 8)} 0102`),
      simple(flushed),
      chunk(cookie, 0, 1, `${be(100, 8)} 0a0b`),
      chunk(cookie, 0, 1, `${be(104, 8)} 03040506`),
      chunk(cookie, 1, 0),
    ]),
  );
  await Promise.all([other, read]);
  assert.deepEqual(into, hex('0a0b 0102 03040506 00000000'));
});

test('unknown reply flags are ignored', async () => {
  const { transport, session } = fakeSession();
  const read = session.read(Buffer.alloc(1), 0);
  await turn();
  transport.feed(chunk(cookies(transport.sent)[0] as string, 0xffff, 1, `${be(0, 8)} 07`));
  await read;
});

/** Sizes around what is copied, received directly, and waited for. */
const sizes = fc.constantFrom(1, 511, 4096, 16383, 16385, 65535, 65536, 262144, 700_000);

test('replies arrive whole however they are cut, structured or simple', async () => {
  const property = fc.asyncProperty(
    fc.array(sizes, { minLength: 1, maxLength: 12 }),
    fc.boolean(),
    fc.integer({ min: 1, max: 300_000 }),
    fc.integer({ min: 0, max: 255 }),
    async (lengths, structured, most, fill) => {
      const { transport, session } = fakeSession({ structured });
      const buffers = lengths.map((length) => Buffer.alloc(length, 0xee));
      const reads = buffers.map((buffer, index) => session.read(buffer, index * 2 ** 20));
      await turn();
      const known = cookies(transport.sent);
      const stream = lengths.map((length, index) => {
        const bytes = Buffer.alloc(length, fill + index);
        const cookie = known[index] as string;
        if (!structured) return Buffer.concat([simple(cookie), bytes]);
        const head = chunk(cookie, 1, 1, be(index * 2 ** 20, 8));
        head.writeUInt32BE(8 + length, 16);
        return Buffer.concat([head, bytes]);
      });
      // Bytes one by one take long for megabytes; the cuts that matter are near the headers.
      transport.feed(Buffer.concat(stream), Math.max(most, Buffer.concat(stream).length / 5000));
      await Promise.all(reads);
      for (const [index, buffer] of buffers.entries()) {
        assert.ok(buffer.equals(Buffer.alloc(buffer.length, fill + index)), `read ${index}`);
      }
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

test('small replies arrive whole byte by byte', async () => {
  const { transport, session } = fakeSession();
  const into = Buffer.alloc(8);
  const all = Promise.all([session.read(into, 0), session.send(status), session.send(flush)]);
  await turn();
  const [read, asked, flushed] = cookies(transport.sent) as [string, string, string];
  transport.feed(
    Buffer.concat([
      chunk(asked, 0, 5, '00000009 00010000 00000001'),
      chunk(read, 0, 1, `${be(0, 8)} 01020304`),
      simple(flushed),
      chunk(read, 1, 2, `${be(4, 8)} 00000004`),
      chunk(asked, 1, 5, '00000003 00008000 00000000 00008000 00000003'),
    ]),
    1,
  );
  const [, statuses] = await all;
  assert.deepEqual(into, hex('01020304 00000000'));
  assert.deepEqual(statuses, [
    { contextId: 9, lengths: Uint32Array.of(65536), flags: Uint32Array.of(1) },
    { contextId: 3, lengths: Uint32Array.of(32768, 32768), flags: Uint32Array.of(0, 3) },
  ]);
});

test('a block status of 2^20 extents is taken', async () => {
  const { transport, session } = fakeSession({ contexts: [{ id: 3, name: 'base:allocation' }] });
  const asked = session.send({ ...status, length: 2 ** 30 });
  await turn();
  const payload = Buffer.alloc(4 + 8 * 2 ** 20, hex('0000020000000003'));
  payload.copyWithin(4, 0, payload.length - 4);
  payload.writeUInt32BE(3, 0);
  const head = chunk(cookies(transport.sent)[0] as string, 1, 5);
  head.writeUInt32BE(payload.length, 16);
  transport.feed(Buffer.concat([head, payload]), 100_000);
  const [answer] = await asked;
  assert.equal(answer?.lengths.length, 2 ** 20);
  assert.ok(answer.lengths.every((length) => length === 512));
});

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
    const { transport, session } = fakeSession({ structured });
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

const read8 = (session: Session): Promise<unknown> => session.read(Buffer.alloc(8), 512);
const write8 = (session: Session): Promise<unknown> => session.write(Buffer.alloc(8), 512);
const ask = (session: Session): Promise<unknown> => session.send(status);
const at = (offset: number | bigint): string => be(offset, 8);
const extents3 = '00000003 00010000 00000000';
const extents9 = '00000009 00010000 00000001';

/** Each claim breaks one rule; `answer` gets the cookie of the request. */
const hostile: readonly (readonly [
  string,
  (session: Session) => Promise<unknown>,
  (cookie: string) => Buffer[],
])[] = [
  ['a wrong magic number', read8, (c) => [hex(`67446699 00000000 ${c}`)]],
  ['a cookie from nowhere', read8, () => [chunk('00000000 00000007', 1, 0)]],
  ['a cookie of a slot that does not exist', read8, () => [chunk('00000001 ffffffff', 1, 0)]],
  ['a simple reply to a read', read8, (c) => [simple(c, 0, '00'.repeat(8))]],
  ['a simple error to a read', read8, (c) => [simple(c, 5)]],
  ['bytes before the request', read8, (c) => [chunk(c, 1, 1, `${at(511)} 01`)]],
  ['bytes behind the request', read8, (c) => [chunk(c, 1, 1, `${at(520)} 01`)]],
  ['bytes across the end of the request', read8, (c) => [chunk(c, 1, 1, `${at(516)} 0102030405`)]],
  ['bytes at 2^64 - 1', read8, (c) => [chunk(c, 1, 1, `${'ff'.repeat(8)} 01`)]],
  ['bytes twice', read8, (c) => [chunk(c, 0, 1, `${at(512)} 0102`), chunk(c, 0, 1, `${at(513)} 01`)]],
  ['more bytes than the request has', read8, (c) => [chunk(c, 1, 1, `${at(512)} ${'00'.repeat(9)}`)]],
  ['4 GiB of bytes', read8, (c) => [hex(`668e33ef 0001 0001 ${c} ffffffff ${at(512)}`)]],
  ['a data chunk without bytes', read8, (c) => [chunk(c, 1, 1, at(512))]],
  ['a data chunk without an offset', read8, (c) => [chunk(c, 1, 1, '0000')]],
  ['too few bytes and the end', read8, (c) => [chunk(c, 1, 1, `${at(512)} 01020304`)]],
  ['no bytes and the end', read8, (c) => [chunk(c, 1, 0)]],
  ['a hole of no bytes', read8, (c) => [chunk(c, 1, 2, `${at(512)} 00000000`)]],
  ['a hole across the end', read8, (c) => [chunk(c, 1, 2, `${at(516)} 00000005`)]],
  [
    'a hole over bytes',
    read8,
    (c) => [chunk(c, 0, 1, `${at(512)} 0102`), chunk(c, 0, 2, `${at(512)} 00000008`)],
  ],
  [
    'bytes over a hole',
    read8,
    (c) => [chunk(c, 0, 2, `${at(512)} 00000004`), chunk(c, 0, 1, `${at(515)} 01`)],
  ],
  ['a hole chunk of 11 bytes', read8, (c) => [chunk(c, 1, 2, `${at(512)} 000008`)]],
  ['a hole chunk of 4 GiB', read8, (c) => [hex(`668e33ef 0001 0002 ${c} ffffffff`)]],
  ['a NONE chunk that is not the end', read8, (c) => [chunk(c, 0, 0)]],
  ['a NONE chunk with a payload', read8, (c) => [chunk(c, 1, 0, '00')]],
  ['two ends', read8, (c) => [chunk(c, 1, 1, `${at(512)} ${'00'.repeat(8)}`), chunk(c, 1, 0)]],
  ['a chunk of an unknown type', read8, (c) => [chunk(c, 1, 3, '00')]],
  ['a reply of extended headers', read8, (c) => [hex(`6e8a278c 0001 0000 ${c}`)]],
  ['bytes in answer to a write', write8, (c) => [chunk(c, 1, 1, `${at(512)} 01`)]],
  ['a hole in answer to a write', write8, (c) => [chunk(c, 1, 2, `${at(512)} 00000001`)]],
  ['block status in answer to a read', read8, (c) => [chunk(c, 1, 5, extents3)]],
  ['bytes in answer to a block status', ask, (c) => [chunk(c, 1, 1, `${at(4096)} 01`)]],
  ['a simple success to a block status', ask, (c) => [simple(c)]],
  ['a context that was not negotiated', ask, (c) => [chunk(c, 0, 5, '00000004 00010000 00000000')]],
  ['a context twice', ask, (c) => [chunk(c, 0, 5, extents3), chunk(c, 0, 5, extents3)]],
  ['a context missing', ask, (c) => [chunk(c, 1, 5, extents9)]],
  ['no context at all', ask, (c) => [chunk(c, 1, 0)]],
  ['an extent of no bytes', ask, (c) => [chunk(c, 0, 5, '00000003 00000000 00000000')]],
  ['half an extent', ask, (c) => [chunk(c, 0, 5, '00000003 00010000')]],
  ['a block status without extents', ask, (c) => [chunk(c, 0, 5, '00000003')]],
  ['a block status without a context', ask, (c) => [chunk(c, 0, 5, '0000')]],
  ['2^20 + 1 extents', ask, (c) => [hex(`668e33ef 0000 0005 ${c} ${be(12 + 8 * 2 ** 20, 4)}`)]],
  ['an error number of 0', read8, (c) => [chunk(c, 1, 0x8001, '00000000 0000')]],
  ['an error chunk of 5 bytes', read8, (c) => [chunk(c, 1, 0x8001, '00000005 00')]],
  ['an error text longer than its chunk', read8, (c) => [chunk(c, 1, 0x8001, '00000005 0005 61')]],
  [
    'an error text longer than a string may be',
    read8,
    (c) => [chunk(c, 1, 0x8001, `00000005 1001 ${'61'.repeat(4097)}`)],
  ],
  ['an error chunk of 4 GiB', read8, (c) => [hex(`668e33ef 0001 8001 ${c} ffffffff`)]],
  ['an error before the request', read8, (c) => [chunk(c, 1, 0x8002, `00000005 0000 ${at(511)}`)]],
  ['an error behind the request', read8, (c) => [chunk(c, 1, 0x8002, `00000005 0000 ${at(520)}`)]],
];

for (const [claim, request, answer] of hostile) {
  test(`${claim} ends the connection with 'protocol', for the request and all later ones`, async () => {
    const { transport, session } = fakeSession();
    const bystander = session.send(flush);
    const attempt = request(session);
    await turn();
    transport.feed(Buffer.concat(answer(transport.sent.subarray(36, 44).toString('hex'))));
    const isTwoEnds = claim === 'two ends';
    if (isTwoEnds) await attempt;
    else
      await assert.rejects(attempt, (error) => isDiskError(error, 'protocol') || assert.fail(String(error)));
    await assert.rejects(bystander, (error) => isDiskError(error, 'protocol'));
    await assert.rejects(session.send(flush), (error) => isDiskError(error, 'protocol'));
    assert.ok(isDiskError(transport.destroyed, 'protocol'));
    transport.feed(Buffer.alloc(100_000));
  });
}

test('a structured reply that was never agreed on ends the connection', async () => {
  const { transport, session } = fakeSession({ structured: false, contexts: [] });
  const read = read8(session);
  await turn();
  transport.feed(chunk(cookies(transport.sent)[0] as string, 1, 1, `${at(512)} ${'00'.repeat(8)}`));
  await assert.rejects(read, (error) => isDiskError(error, 'protocol'));
});

test('any bytes at all are answers or the end of the connection, and never an exception', async () => {
  const property = fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.nat(7), async (bytes, kind) => {
    const { transport, session } = fakeSession({ structured: kind < 4 });
    const calls = [read8(session), ask(session), write8(session)];
    const settled = Promise.allSettled(calls);
    await turn();
    const [cookie] = cookies(transport.sent) as [string];
    const types = [1, 2, 5, 0x8001, 0, 0, 0, 0];
    const start = kind < 4 ? hex(`668e33ef 0001 ${be(types[kind] as number, 2)} ${cookie}`) : simple(cookie);
    transport.feed(Buffer.concat([start, bytes]));
    transport.hangUp();
    for (const { status: outcome } of await settled) assert.ok(outcome !== undefined);
  });
  await fc.assert(property, { numRuns: 500 });
});
