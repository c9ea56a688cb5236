/** Attacks on other servers that became known, one test each: what concerns serving, limits and shutdown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RawClient } from './raw-client.ts';
import { chunk, greeting, option, request, type Serving, serving, simple } from './serving.ts';
import { ioError, testDisk } from './test-disk.ts';

const MiB = 1024 * 1024;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function stillServes(serve: Serving): Promise<void> {
  await using client = await serve.connected();
  client.send(request(3, 0, 0));
  await client.expect(simple());
}

const comesThrough = (serve: Serving): Promise<boolean> =>
  stillServes(serve).then(
    () => true,
    () => false,
  );

for (const [cve, command, length, errno] of [
  ['CVE-2005-3534', 1, 32 * MiB + 1, 22],
  ['CVE-2005-3534', 1, 64 * MiB, 22],
  ['CVE-2011-0530', 0, 32 * MiB + 1, 75],
  ['CVE-2011-0530', 0, 0xffff_ffff, 22],
] as const) {
  test(`${cve}: request ${command} of ${length} bytes is refused before memory is taken for it`, async () => {
    await using serve = await serving({
      exports: [{ name: '', device: testDisk({ size: 128 * MiB }).device }],
    });
    await using client = await serve.connected();
    const before = process.memoryUsage().arrayBuffers;
    client.send(request(command, 0, length));
    if (command === 1) {
      await turn();
      assert.ok(process.memoryUsage().arrayBuffers - before < 16 * MiB);
      for (let sent = 0; sent < length; sent += MiB) client.send(Buffer.alloc(Math.min(MiB, length - sent)));
    }
    await client.expect(simple(errno));
    await stillServes(serve);
  });
}

test('CVE-2005-3534: a write of 4 GiB less a byte ends the connection, and nothing of it is kept', async () => {
  const disk = testDisk({ size: 64 * MiB });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  client.send(request(1, 0, 0xffff_ffff));
  await client.expectEnd();
  assert.deepEqual(disk.calls, []);
  await stillServes(serve);
});

/** Clients in every state that a handshake has, and one with a write half sent. */
async function inEveryState(serve: Serving, count: number): Promise<readonly RawClient[]> {
  const sent = [
    '',
    '0000',
    '00000003',
    `00000003 ${option(3, '').slice(0, 20)}`,
    `00000003 ${option(8, '')}`,
  ];
  const clients: RawClient[] = [];
  for (let index = 0; index < count; index++) {
    if (index % 6 === 5) {
      const client = await serve.connected();
      client.send(`${request(1, 0, 1000)} 00`);
      clients.push(client);
      continue;
    }
    const client = await serve.connect();
    await client.expect(greeting);
    client.send(sent[index % 6] as string);
    clients.push(client);
  }
  return clients;
}

test('CVE-2024-7409: a server that stops with 50 clients in every state is done, and leaves none of them', async () => {
  const disk = testDisk();
  const serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const clients = await inEveryState(serve, 50);
  await serve.server.close({ graceMs: 600_000 });
  assert.equal(serve.server.connections, 0);
  for (const client of clients) {
    while (!client.socket.destroyed && client.socket.readable) await turn();
  }
  await serve[Symbol.asyncDispose]();
  assert.deepEqual(disk.calls, ['flush']);
});

test('CVE-2024-7409: clients who only connect hold no more than their places, and wait in a queue beyond them', async () => {
  await using serve = await serving({
    exports: [{ name: '', device: testDisk().device }],
    handshakeTimeoutMs: 60,
  });
  const idle = await Promise.all(Array.from({ length: 110 }, () => serve.connect()));
  assert.ok(serve.server.connections <= 100);
  // A client that behaves may be too slow for the deadline as well, and comes again.
  for (let left = 500; !(await comesThrough(serve)); left--) assert.ok(left > 0);
  for (const client of idle) client.socket.destroy();
});

test('CVE-2015-0847: a hundred calls to stop are one stop', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  client.send(request(3, 0, 0));
  await client.expect(simple());
  await Promise.all(Array.from({ length: 100 }, () => serve.server.close()));
  assert.deepEqual(disk.calls, ['flush', 'flush']);
});

for (const [length, flags] of [
  [0xffff_ffff, 0],
  [0xffff_ffff, 1 << 3],
  [0xffff_f000, 0],
] as const) {
  test(`CVE-2025-47711, CVE-2025-47712: block status of ${length} bytes of a huge hole${flags ? ', one extent,' : ''} stays inside the request`, async () => {
    const hole = { size: 16 * 2 ** 40, kind: 'hole' as const };
    await using serve = await serving({ exports: [{ name: '', source: hugeHole(hole.size) }] });
    await using client = await serve.connected({ structured: true, contexts: ['base:allocation'] });
    client.send(request(7, 4096, length, flags));
    const header = await client.receive(20);
    assert.equal(header.readUInt16BE(6), 5);
    const payload = await client.receive(header.readUInt32BE(16));
    let total = 0;
    for (let at = 4; at < payload.length; at += 8) {
      assert.ok(payload.readUInt32BE(at) > 0);
      total += payload.readUInt32BE(at);
    }
    assert.ok(total > 0 && total <= length, `${total} of ${length}`);
    client.send(request(3, 0, 0));
    await client.expect(simple());
  });
}

/** A disk of nothing, too large for memory. */
function hugeHole(size: number) {
  const extent = (offset: number, limit: number) => ({
    offset,
    length: limit,
    kind: 'hole' as const,
    depth: 0,
  });
  return {
    size,
    read: async (into: Uint8Array) => void into.fill(0),
    tryRead: (into: Uint8Array) => into.fill(0).length > 0,
    extentAt: async (offset: number, limit: number) => extent(offset, limit),
    tryExtentAt: extent,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

test('CVE-2020-10761: an error text with a hostile name or message stays short and printable', async () => {
  const disk = testDisk();
  disk.fail('write', Object.assign(Object.create(ioError), { message: '%n\u001b\0'.repeat(3000) }));
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected({ structured: true });
  client.send(`${request(1, 0, 1)} 00`);
  const header = await client.receive(20);
  const payload = await client.receive(header.readUInt32BE(16));
  assert.ok(payload.length < 4096);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  assert.doesNotMatch(payload.toString('latin1', 6), /[\x00-\x1f]/);
});

test('clients who take no answers give up their places when others wait for them', async () => {
  const disk = testDisk({ size: 64 * MiB });
  disk.setKind(0, 64 * MiB, 'data');
  await using serve = await serving({
    exports: [{ name: '', source: disk.device }],
    maxConnections: 4,
    stalledMs: 40,
  });
  const rude = await Promise.all(Array.from({ length: 3 }, () => serve.connected()));
  await using idle = await serve.connected();
  for (const client of rude) {
    client.socket.pause();
    client.send(request(0, 0, 4 * MiB).repeat(200));
  }
  await using next = await serve.connected();
  next.send(request(0, 0, 4));
  await next.expect(`${simple()} 00000000`);
  // Who asks for nothing holds nothing up, and keeps its place.
  idle.send(request(3, 0, 0));
  await idle.expect(simple());
  for (const client of rude) client.socket.destroy();
});

test('a server tells of a client that was cut off, and why', async () => {
  const told: string[] = [];
  await using serve = await serving({
    exports: [{ name: '', device: testDisk().device }],
    handshakeTimeoutMs: 40,
    observer: {
      connected: ({ id }) => told.push(`connected ${id}`),
      left: ({ id, session, cutOff }) => told.push(`left ${id} ${session?.exportName} ${cutOff}`),
    },
  });
  await using silent = await serve.connect();
  await silent.expect(greeting);
  await silent.expectEnd();
  while (told.length < 2) await turn();
  assert.deepEqual(told, ['connected 1', 'left 1 undefined handshake timeout']);
});

test('a server tells who came, chose and left, and what was asked of each export', async () => {
  const told: string[] = [];
  const disk = testDisk();
  await using serve = await serving({
    exports: [
      { name: 'a', device: disk.device },
      { name: 'b', source: disk.device },
    ],
    observer: {
      connected: ({ id, peer }) => told.push(`connected ${id} ${peer}`),
      entered: ({ id, session }) => told.push(`entered ${id} ${session?.exportName}`),
      left: ({ id, session, cutOff }) => told.push(`left ${id} ${session?.exportName} ${cutOff}`),
    },
  });
  {
    await using client = await serve.connected({ name: 'a' });
    client.send(`${request(1, 0, 5)} 0102030405`);
    await client.expect(simple());
    client.send(`${request(0, 0, 3)} ${request(9, 0, 0)}`);
    await client.expect(`${simple()} 010203 ${simple(22)}`);
    const live = serve.server.figures().map(({ exportName, counters }) => [exportName, counters.written]);
    assert.deepEqual(live, [
      ['a', 5],
      ['b', 0],
    ]);
    client.send(request(2, 0, 0));
  }
  while (told.length < 3) await turn();
  assert.deepEqual(told, ['connected 1 undefined', 'entered 1 a', 'left 1 a undefined']);
  const [a] = serve.server.figures();
  assert.deepEqual(
    [a?.counters.requests()['write'], a?.counters.requests()['read'], a?.counters.read, a?.counters.failed],
    [1, 1, 3, 1],
  );
  assert.equal(serve.server.clients, 1);
});

test('16 requests of one connection are under way at a time', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('discard');
  await using client = await serve.connected({ structured: true });
  client.send(request(4, 0, 4096).repeat(40));
  await stillServes(serve);
  assert.equal(disk.calls.filter((call) => call.startsWith('discard')).length, 16);
  open();
  for (let count = 0; count < 40; count++) await client.expect(simple());
  client.send(request(0, 0, 0));
  await client.expect(chunk(0, ''));
});
