import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BlockDevice } from '@strata/block';
import fc from 'fast-check';
import { ascii, hex, type RawClient, rawClient, u32 } from './raw-client.ts';
import { greeting, option, request, type Serving, serving, simple } from './serving.ts';
import { testDisk } from './test-disk.ts';

const start = () => serving({ exports: [{ name: '', device: testDisk({ size: 64 * 1024 * 1024 }).device }] });

/** A client that behaves is served as if nothing had happened. */
async function stillServes(serve: Serving): Promise<void> {
  await using client = await serve.connected({ structured: true });
  client.send(`${request(1, 5, 3)} 616263`);
  await client.expect(simple());
  client.send(request(2, 0, 0));
  await client.expectEnd();
}

/** All connections of the server have ended. */
async function quiet(serve: Serving): Promise<void> {
  while (serve.server.connections > 0) await new Promise(setImmediate);
}

const base = ascii('base:allocation');
/** A session with one of everything, as a client sends it. */
const session = hex(
  [
    '00000003',
    option(3, ''),
    option(8, ''),
    option(9, u32(0) + u32(0)),
    option(10, u32(0) + u32(1) + u32(base.length / 2) + base),
    option(6, `${u32(0)} 0002 0001 0003`),
    option(7, `${u32(0)} 0000`),
    request(0, 0, 100),
    `${request(1, 0, 10)} ${'ab'.repeat(10)}`,
    request(3, 0, 0),
    request(4, 0, 4096),
    request(5, 0, 4096),
    request(6, 0, 4096, 3),
    request(7, 0, 4096),
    request(2, 0, 0),
  ].join(''),
);

test('CVE-2017-7539, CVE-2017-9524: a session that is cut after any byte leaves the server serving', async () => {
  await using serve = await start();
  for (let cut = 0; cut <= session.length; cut++) {
    await using client = await serve.connect();
    client.send(session.subarray(0, cut));
    // Half of them hang up properly, the others without having read anything.
    if (cut % 2 === 0) client.socket.end();
    else client.socket.destroy();
  }
  await quiet(serve);
  await stillServes(serve);
});

test('a session with any byte changed leaves the server serving', async () => {
  await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
  for (let at = 0; at < session.length; at++) {
    const changed = Buffer.from(session);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    await using client = await serve.connect();
    client.send(changed);
    client.socket.end();
    client.socket.resume();
  }
  await quiet(serve);
  await stillServes(serve);
});

test('1000 clients that hang up at once are no harm', async () => {
  await using unix = await start();
  await using tcp = await serving({
    exports: [{ name: '', device: testDisk().device }],
    address: { host: '127.0.0.1', port: 0 },
  });
  const { address } = tcp.server;
  assert.ok('port' in address);
  for (let round = 0; round < 25; round++) {
    const clients = Array.from({ length: 20 }, () => [unix.connect(), rawClient(address.port)]).flat();
    for (const { socket } of await Promise.all(clients)) {
      if (socket.remoteFamily === undefined) socket.destroy();
      else socket.resetAndDestroy();
    }
  }
  await quiet(unix);
  await quiet(tcp);
  await stillServes(unix);
});

test('a client that hangs up with 16 reads of 32 MiB under way is no harm to the next one', async () => {
  await using serve = await start();
  for (let round = 0; round < 3; round++) {
    const client = await serve.connected();
    client.send(request(0, 0, 32 * 1024 * 1024).repeat(16));
    await client.receive(16);
    client.socket.destroy();
    await stillServes(serve);
  }
  await quiet(serve);
});

test('clients that hang up while the disk works leave the work to finish, and nothing behind', async () => {
  const disk = testDisk({ size: 64 * 1024 * 1024 });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('write');
  const clients: RawClient[] = [];
  for (let index = 0; index < 10; index++) {
    const client = await serve.connected();
    client.send(`${request(1, index, 1)} ${u32(index + 1).slice(6)} ${request(1, 0, 2 * 1024 * 1024)}`);
    client.send(Buffer.alloc(1024 * 1024));
    clients.push(client);
  }
  while (disk.calls.length < 10) await new Promise(setImmediate);
  for (const client of clients) client.socket.destroy();
  open();
  await quiet(serve);
  assert.deepEqual([...disk.bytes.subarray(0, 10)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await stillServes(serve);
});

const anyOption = fc.record({
  option: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constant(0xffffffff)),
  data: fc.oneof(
    fc.constant(''),
    fc.constant(`${u32(0)} 0000`),
    fc.constant(u32(0) + u32(1) + u32(base.length / 2) + base),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('hex')),
  ),
});

test('CVE-2019-14851: any sequence of options is answered or ended, and leaves the server serving', async () => {
  await using serve = await start();
  await fc.assert(
    fc.asyncProperty(fc.array(anyOption, { maxLength: 8 }), async (options) => {
      await using client = await serve.connect();
      await client.expect(greeting);
      client.send('00000003');
      for (const { option: number, data } of options) client.send(option(number, data));
      client.socket.end();
      client.socket.resume();
    }),
    { numRuns: 150 },
  );
  await quiet(serve);
  await stillServes(serve);
});

const anyRequest = fc.record({
  command: fc.integer({ min: 0, max: 9 }),
  flags: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })),
  offset: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 ** 47 })),
  length: fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 0xffffffff })),
  payload: fc.uint8Array({ maxLength: 5000 }),
});

test('any sequence of requests is answered or ended, and leaves the server serving', async () => {
  await using serve = await start();
  await fc.assert(
    fc.asyncProperty(fc.array(anyRequest, { maxLength: 12 }), async (requests) => {
      await using client = await serve.connected({ structured: true, contexts: ['base:allocation'] });
      for (const { command, offset, length, flags, payload } of requests) {
        client.send(request(command, offset, length, flags));
        if (command === 1) client.send(Buffer.from(payload));
      }
      client.socket.end();
      client.socket.resume();
    }),
    { numRuns: 150 },
  );
  await quiet(serve);
  await stillServes(serve);
});

test('a disk that throws where it should reject costs one connection, and is reported', async () => {
  const bug = new RangeError('thrown');
  const good = testDisk();
  const device: BlockDevice = Object.create(good.device, {
    size: { value: good.device.size },
    caps: { value: good.device.caps },
    flush: { value: () => good.device.flush() },
    write: {
      value: () => {
        throw bug;
      },
    },
  });
  const reported: unknown[] = [];
  await using serve = await serving({
    exports: [
      { name: 'bad', device },
      { name: '', device: good.device },
    ],
    onError: (error) => reported.push(error),
  });
  await using client = await serve.connected({ name: 'bad' });
  client.send(`${request(1, 0, 1)} 00`);
  await client.expectEnd();
  assert.deepEqual(reported, [bug]);
  await stillServes(serve);
});

test('CACHE stops when nobody waits for it any more', async () => {
  const disk = testDisk({ size: 64 * 1024 * 1024 });
  disk.setKind(0, 64 * 1024 * 1024, 'data');
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('read');
  const client = await serve.connected();
  client.send(request(5, 0, 64 * 1024 * 1024));
  while (disk.calls.length === 0) await new Promise(setImmediate);
  client.socket.destroy();
  const closed = serve.server.close({ graceMs: 0 });
  await client.expectEnd();
  open();
  await closed;
  // The whole of it takes 256 reads. How soon the server hears of the closed socket is up to the machine.
  assert.ok(disk.calls.length < 128, `${disk.calls.length} calls`);
});
