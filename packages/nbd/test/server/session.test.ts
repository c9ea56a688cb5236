import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError } from '@strata/block';
import { ascii, hex, type RawClient, u32 } from './raw-client.ts';
import { chunk, request, serving, simple } from './serving.ts';
import { ioError, type TestDisk, testDisk } from './test-disk.ts';

const MiB = 1024 * 1024;

/** An ERROR chunk with its text. */
const errorChunk = (errno: number, text: string): string =>
  chunk(0x8001, u32(errno) + text.length.toString(16).padStart(4, '0') + ascii(text));
/** An error at offset 0 of the disk. */
const errorAtZero = (errno: number, text: string): string =>
  chunk(0x8002, u32(errno) + text.length.toString(16).padStart(4, '0') + ascii(text) + u32(0) + u32(0));

/** An ERROR_OFFSET chunk that says that the disk ends before the request does. */
const pastChunk = (errno: number, text: string): string =>
  chunk(0x8002, u32(errno) + text.length.toString(16).padStart(4, '0') + ascii(text) + u32(0) + u32(MiB));

const past = (offset: number, length: number): string =>
  `operation past EOF; From: ${offset}, Len: ${length}, Size: ${MiB}`;

/** Requests that are refused on a disk of 1 MiB: command, offset, length, flags, number, text. */
const refused: readonly (readonly [string, string, number, string])[] = [
  ['READ past the end', request(0, MiB - 1, 2), 22, past(MiB - 1, 2)],
  ['READ of 4 GiB', request(0, 0, 0xffffffff), 22, past(0, 0xffffffff)],
  ['TRIM past the end', request(4, 0, 0xffffffff), 22, past(0, 0xffffffff)],
  ['CACHE past the end', request(5, MiB, 1), 22, past(MiB, 1)],
  ['WRITE_ZEROES past the end', request(6, 0, 0xffffffff), 28, past(0, 0xffffffff)],
  ['FLUSH with a length', request(3, 0, 1), 22, 'FLUSH takes no range'],
  ['FLUSH with an offset', request(3, 1, 0), 22, 'FLUSH takes no range'],
  ['BLOCK_STATUS without contexts', request(7, 0, 1), 22, 'CMD_BLOCK_STATUS not negotiated'],
  ['an unknown command', request(99, 0, 0), 22, 'unknown request 99'],
  ['RESIZE', request(8, 0, 0), 22, 'unknown request 8'],
  ['READ with NO_HOLE', request(0, 0, 1, 2), 22, 'request 0 takes no flags 0x2'],
  ['READ with an unknown flag', request(0, 0, 1, 0x8000), 22, 'request 0 takes no flags 0x8000'],
  ['FLUSH with DF', request(3, 0, 0, 4), 22, 'request 3 takes no flags 0x4'],
  ['TRIM with FAST_ZERO', request(4, 0, 1, 0x10), 22, 'request 4 takes no flags 0x10'],
  ['WRITE_ZEROES with REQ_ONE', request(6, 0, 1, 8), 22, 'request 6 takes no flags 0x8'],
  ['CACHE with NO_HOLE', request(5, 0, 1, 2), 22, 'request 5 takes no flags 0x2'],
];
for (const [claim, sent, errno, text] of refused) {
  test(`${claim} is refused with ${errno}, and the next request is served`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
    await using plain = await serve.connected();
    plain.send(sent + request(3, 0, 0));
    await plain.expect(simple(errno) + simple());
    await using structured = await serve.connected({ structured: true });
    structured.send(sent + request(3, 0, 0));
    const reachesIn = text.startsWith('operation past EOF') && !text.includes(`From: ${MiB}`);
    await structured.expect((reachesIn ? pastChunk : errorChunk)(errno, text) + simple());
  });
}

test('an offset of 64 bits is past the end', async () => {
  await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
  await using client = await serve.connected();
  const header = '25609513 0000 0000 00000000c0ffee00';
  client.send(`${header} ffffffffffffffff 00000001 ${header} 0020000000000000 00000001`);
  await client.expect(simple(22) + simple(22));
});

for (const [claim, sent] of [
  ['WRITE', `${request(1, 0, 4)} 01020304`],
  ['TRIM', request(4, 0, 4)],
  ['WRITE_ZEROES', request(6, 0, 4)],
] as const) {
  test(`${claim} on a read-only export is refused with EPERM and changes nothing`, async () => {
    const disk = testDisk();
    disk.bytes.fill(0x55);
    await using serve = await serving({ exports: [{ name: '', source: disk.device }] });
    await using client = await serve.connected({ structured: true });
    client.send(sent + request(3, 0, 0));
    await client.expect(errorChunk(1, 'Export is read-only') + simple());
    assert.equal(disk.bytes.readUInt32BE(0), 0x55555555);
  });
}

test('requests of length 0 succeed, but BLOCK_STATUS', async () => {
  await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
  const all = [0, 1, 4, 5, 6].map((command) => request(command, MiB, 0)).join('');
  await using plain = await serve.connected();
  plain.send(all);
  await plain.expect(simple().repeat(5));
  await using structured = await serve.connected({ structured: true, contexts: ['base:allocation'] });
  structured.send(all + request(7, 0, 0));
  await structured.expect(chunk(0, '') + errorChunk(22, 'need non-zero length') + simple().repeat(4));
});

test('DF without structured replies is refused', async () => {
  await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
  await using client = await serve.connected();
  client.send(request(0, 0, 4, 4));
  await client.expect(simple(22));
});

test('READ of more than 32 MiB is refused with EOVERFLOW, and of 32 MiB served', async () => {
  const disk = testDisk({ size: 64 * MiB });
  disk.bytes.writeUInt32BE(0xdecade00, 32 * MiB - 4);
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  client.send(request(0, 0, 32 * MiB + 1));
  await client.expect(simple(75));
  client.send(request(0, 0, 32 * MiB));
  await client.expect(simple());
  const bytes = await client.receive(32 * MiB);
  assert.equal(bytes.readUInt32BE(32 * MiB - 4), 0xdecade00);
});

/** The disk of a test with the commands that change it, and what reaches the disk. */
const performed: readonly (readonly [string, string, readonly string[]])[] = [
  ['WRITE writes', `${request(1, 4096, 4)} 01020304`, ['write 4096+4']],
  ['WRITE with FUA flushes after it', `${request(1, 0, 4, 1)} 01020304`, ['write 0+4', 'flush']],
  ['TRIM discards', request(4, 4096, 8192), ['discard 4096+8192']],
  ['TRIM with FUA flushes after it', request(4, 0, 4096, 1), ['discard 0+4096', 'flush']],
  ['WRITE_ZEROES may leave holes', request(6, 0, 4096), ['zero 0+4096']],
  ['WRITE_ZEROES with NO_HOLE allocates', request(6, 0, 4096, 2), ['zero 0+4096 allocate']],
  ['WRITE_ZEROES with FAST_ZERO is fast or nothing', request(6, 0, 4096, 0x10), ['zero 0+4096 fast']],
  ['WRITE_ZEROES with FUA flushes after it', request(6, 0, 4096, 1), ['zero 0+4096', 'flush']],
  ['FLUSH flushes', request(3, 0, 0), ['flush']],
  ['FLUSH with FUA flushes', request(3, 0, 0, 1), ['flush']],
  ['CACHE reads data and passes over holes', request(5, 0, 12288), ['read 4096+4096']],
  ['CACHE with FUA does the same', request(5, 0, 12288, 1), ['read 4096+4096']],
];
for (const [claim, sent, calls] of performed) {
  test(claim, async () => {
    const disk = testDisk();
    disk.setKind(4096, 4096, 'data');
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using client = await serve.connected({ structured: true });
    client.send(sent);
    await client.expect(simple());
    assert.deepEqual(disk.calls, calls);
  });
}

test('FUA is taken with every command', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: '', source: disk.device }] });
  await using client = await serve.connected({ structured: true, contexts: ['base:allocation'] });
  client.send(request(0, 0, 4096, 1));
  await client.expect(chunk(2, '0000000000000000 00001000'));
  client.send(request(7, 0, 4096, 1));
  await client.expect(chunk(5, '00000000 00001000 00000003'));
  client.send(request(3, 0, 0, 1));
  await client.expect(simple());
});

test('a failing disk is answered with the number and the text of its failure', async () => {
  const rows = [
    [ioError, 5, 'the disk is broken'],
    [new DiskError('no-space', 'no space left'), 28, 'no space left'],
    [new DiskError('corrupt', 'L2 entry 0x10 is bad'), 5, 'L2 entry 0x10 is bad'],
    [new DiskError('read-only', 'opened for reading'), 1, 'opened for reading'],
    [new DiskError('closed', 'gone'), 108, 'gone'],
    [new DiskError('not-supported', 'no such thing'), 22, 'no such thing'],
    [new DiskError('io', 'a\u001b[2J\u0000b'), 5, 'a\\u{1b}[2J\\u{0}b'],
  ] as const;
  for (const [error, errno, text] of rows) {
    const disk = testDisk({ slow: true });
    for (const op of ['read', 'write', 'zero', 'discard', 'flush']) disk.fail(op, error);
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using plain = await serve.connected();
    await using structured = await serve.connected({ structured: true });
    disk.setKind(0, 4096, 'data');
    for (const sent of [
      request(0, 0, 4),
      `${request(1, 0, 4)} 01020304`,
      request(3, 0, 0),
      request(4, 0, 4),
      request(5, 0, 4),
      request(6, 0, 4),
    ]) {
      plain.send(sent);
      await plain.expect(simple(errno));
      structured.send(sent);
      // Where a read failed can be told if it was the disk.
      const isRead = sent === request(0, 0, 4) && (error.code === 'io' || error.code === 'corrupt');
      await structured.expect(isRead ? errorAtZero(errno, text) : errorChunk(errno, text));
    }
    disk.fail('flush', undefined);
  }
});

test('a fast zero that would be slow is answered ENOTSUP, and only that', async () => {
  const disk = testDisk();
  disk.fail('zero', new DiskError('not-supported', 'zeros would be written out'));
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  client.send(request(6, 0, 4096, 0x10));
  await client.expect(simple(95));
  client.send(request(6, 0, 4096));
  await client.expect(simple(22));
});

test('a bug is answered EIO without its text, and reported', async () => {
  const disk = testDisk({ slow: true });
  const bug = new RangeError('secret of the implementation');
  disk.fail('read', bug);
  const reported: unknown[] = [];
  await using serve = await serving({
    exports: [{ name: '', device: disk.device }],
    onError: (error) => reported.push(error),
  });
  disk.setKind(0, 4096, 'data');
  await using client = await serve.connected({ structured: true });
  client.send(request(0, 0, 4));
  await client.expect(errorChunk(5, 'internal error'));
  assert.deepEqual(reported, [bug]);
});

async function holding(
  disk: TestDisk,
  op: string,
  body: (client: RawClient, open: () => void) => Promise<void>,
) {
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold(op);
  await using client = await serve.connected();
  await body(client, open);
}

test('a request that waits does not hold up those behind it', async () => {
  await holding(testDisk(), 'write', async (client, open) => {
    client.send(`${request(1, 0, 4)} 01020304`);
    client.send(request(0, 4096, 4));
    await client.expect(`${simple()} 00000000`);
    open();
    await client.expect(simple());
  });
});

test('DISC ends the connection when everything before it has been answered, and nothing after it', async () => {
  const disk = testDisk();
  await holding(disk, 'write', async (client, open) => {
    client.send(`${request(1, 0, 4)} 01020304 ${request(2, 0, 0)} ${request(0, 0, 4)}`);
    await client.socket.setTimeout(0);
    open();
    await client.expect(simple());
    await client.expectEnd();
    assert.equal(disk.bytes.readUInt32BE(0), 0x01020304);
  });
});

test('a client that only stops sending still gets its answers', async () => {
  await holding(testDisk(), 'flush', async (client, open) => {
    client.send(request(3, 0, 0));
    client.socket.end();
    open();
    await client.expect(simple());
    await client.expectEnd();
  });
});

test('a request with a wrong magic number ends the connection', async () => {
  await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
  await using client = await serve.connected();
  client.send(hex(`25609512 ${'00'.repeat(24)}`));
  await client.expectEnd();
});

test('a cookie comes back bit for bit', async () => {
  await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
  await using client = await serve.connected();
  for (const cookie of ['ffffffffffffffff', '0000000000000000', '8000000080000000', '0123456789abcdef']) {
    client.send(`25609513 0000 0003 ${cookie} 0000000000000000 00000000`);
    await client.expect(`67446698 00000000 ${cookie}`);
  }
});
