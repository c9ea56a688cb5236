import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import fc from 'fast-check';
import type { PlainRequest, Session } from '../../src/client/session.ts';
import { chunk, cookies, fakeSession, simple, turn } from './fake-transport.ts';
import { be, hex } from './script.ts';

const flush: PlainRequest = { command: 3, offset: 0, length: 0 };
const status: PlainRequest = { command: 7, offset: 4096, length: 65536 };

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
      const { transport, session } = fakeSession({ style: structured ? 'structured' : 'simple' });
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
  const { transport, session } = fakeSession({ style: 'simple', contexts: [] });
  const read = read8(session);
  await turn();
  transport.feed(chunk(cookies(transport.sent)[0] as string, 1, 1, `${at(512)} ${'00'.repeat(8)}`));
  await assert.rejects(read, (error) => isDiskError(error, 'protocol'));
});

test('any bytes at all are answers or the end of the connection, and never an exception', async () => {
  const property = fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.nat(7), async (bytes, kind) => {
    const { transport, session } = fakeSession({ style: kind < 4 ? 'structured' : 'simple' });
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
