import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { listen } from '../../src/server/listen.ts';
import { rawClient, rawClientOn } from './raw-client.ts';
import { greeting, option, reply, request, serving, simple, takeReplies } from './serving.ts';
import { ioError, testDisk } from './test-disk.ts';

const oneExport = () => ({ exports: [{ name: '', device: testDisk().device }] });

test('a TCP port is served, and told when it was left open', async () => {
  const server = await listen({ ...oneExport(), address: { host: '127.0.0.1', port: 0 } });
  assert.ok('port' in server.address && server.address.port > 0);
  assert.deepEqual(server.address, { host: '127.0.0.1', port: server.address.port });
  const client = await rawClient(server.address.port);
  await client.expect(greeting);
  const busy = listen({ ...oneExport(), address: server.address });
  await assert.rejects(busy, (error) => isDiskError(error, 'busy'));
  await server.close();
  await client.expectEnd();
});

test("two exports of one name, or a name that cannot be sent, are the caller's mistake", async () => {
  const { device } = testDisk();
  const address = { host: '127.0.0.1', port: 0 };
  const twice = [
    { name: 'a', device },
    { name: 'a', source: device },
  ];
  await assert.rejects(listen({ exports: twice, address }), RangeError);
  for (const name of ['x'.repeat(4097), 'a\0b']) {
    await assert.rejects(listen({ exports: [{ name, device }], address }), RangeError);
  }
});

test('several exports are different disks', async () => {
  const disks = [testDisk(), testDisk()] as const;
  disks[0].bytes.fill(1);
  disks[1].bytes.fill(2);
  await using serve = await serving({
    exports: [
      { name: 'one', device: disks[0].device },
      { name: 'zwei/zwölf', source: disks[1].device },
    ],
  });
  await using one = await serve.connected({ name: 'one' });
  await using two = await serve.connected({ name: 'zwei/zwölf' });
  one.send(request(0, 0, 2));
  two.send(request(0, 0, 2));
  await one.expect(`${simple()} 0101`);
  await two.expect(`${simple()} 0202`);
});

test('a write is seen on every connection as soon as it is answered', async () => {
  await using serve = await serving(oneExport());
  await using one = await serve.connected();
  await using two = await serve.connected();
  for (let round = 0; round < 50; round++) {
    const byte = round.toString(16).padStart(2, '0');
    one.send(`${request(1, round, 1)} ${byte}`);
    await one.expect(simple());
    two.send(request(0, round, 1));
    await two.expect(`${simple()} ${byte}`);
  }
});

test('clients beyond the limit wait until another one leaves', async () => {
  await using serve = await serving({ ...oneExport(), maxConnections: 2 });
  await using first = await serve.connected();
  await using second = await serve.connected();
  await using third = await serve.connect();
  await using fourth = await serve.connect();
  second.send(request(3, 0, 0));
  await second.expect(simple());
  assert.equal(serve.server.connections, 2);
  first.send(request(2, 0, 0));
  await first.expectEnd();
  await third.expect(greeting);
  second.socket.destroy();
  await fourth.expect(greeting);
});

test('a client that gives up waiting is no harm to the next one', async () => {
  await using serve = await serving({ ...oneExport(), maxConnections: 1 });
  await using first = await serve.connected();
  await using impatient = await serve.connect();
  await using patient = await serve.connect();
  impatient.socket.destroy();
  first.socket.destroy();
  await patient.expect(greeting);
});

test('clients beyond the queue are turned away', async () => {
  await using serve = await serving({ ...oneExport(), maxConnections: 1 });
  await using served = await serve.connected();
  const waiting = await Promise.all(Array.from({ length: 128 }, () => serve.connect()));
  await using late = await serve.connect();
  await late.expectEnd();
  for (const client of waiting) client.socket.destroy();
  served.send(request(3, 0, 0));
  await served.expect(simple());
});

test('closing answers what is under way, refuses what comes after, and then ends connections', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('write');
  await using busy = await serve.connected();
  await using idle = await serve.connected({ structured: true });
  await using negotiating = await serve.connect();
  await negotiating.expect(greeting);
  negotiating.send('00000003');
  busy.send(`${request(1, 0, 1)} 77`);
  while (disk.calls.length === 0) await new Promise(setImmediate);

  const closed = serve.server.close();
  await assert.rejects(rawClient(serve.path).then((client) => client.receive(1)));
  idle.send(request(0, 0, 1));
  const refusal = await idle.receive(20);
  assert.equal(refusal.readUInt16BE(6), 0x8001);
  assert.equal((await idle.receive(refusal.readUInt32BE(16))).readUInt32BE(0), 108);
  busy.send(`${request(1, 0, 1)} 78 ${request(0, 0, 1)}`);
  await busy.expect(simple(108) + simple(108));
  negotiating.send(option(3, ''));
  assert.deepEqual(await takeReplies(negotiating), [0x80000007]);
  negotiating.send(option(2, ''));
  await negotiating.expect(reply(2, 1, ''));
  open();
  await busy.expect(simple());
  await busy.expectEnd();
  await idle.expectEnd();
  await closed;
  assert.deepEqual(disk.calls, ['write 0+1', 'flush']);
  assert.equal(disk.bytes[0], 0x77);
});

test('closing is done at once when nothing is under way, whatever state clients are in', async () => {
  await using serve = await serving(oneExport());
  const clients = await Promise.all(Array.from({ length: 20 }, () => serve.connect()));
  for (const [index, client] of clients.entries()) {
    await client.expect(greeting);
    if (index % 4 > 0) client.send('00000003');
    if (index % 4 > 1) client.send('49484156454f5054 0000');
    if (index % 4 > 2) client.send('0007 00000006 0000');
  }
  await using half = await serve.connected();
  half.send(`${request(1, 0, 1000)} 00`);
  await serve.server.close({ graceMs: 60_000 });
  for (const client of clients) await client.expectEnd();
  await half.expectEnd();
});

test('a client that takes no answers is cut off after the grace, and the disk is flushed after its work', async () => {
  const disk = testDisk({ size: 64 * 1024 * 1024 });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  client.socket.pause();
  client.send(request(0, 0, 32 * 1024 * 1024).repeat(3));
  const open = disk.hold('write');
  await using writer = await serve.connected();
  writer.send(`${request(1, 0, 1)} 77`);
  while (!disk.calls.includes('write 0+1')) await new Promise(setImmediate);
  const closed = serve.server.close({ graceMs: 20 });
  await writer.expectEnd();
  assert.ok(!disk.calls.includes('flush'));
  open();
  await closed;
  assert.equal(disk.calls.at(-1), 'flush');
  assert.equal(disk.bytes[0], 0x77);
});

test('a second close shortens the grace of the first', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('flush');
  await using client = await serve.connected();
  client.send(request(3, 0, 0));
  while (disk.calls.length === 0) await new Promise(setImmediate);
  const first = serve.server.close({ graceMs: 600_000 });
  const second = serve.server.close({ graceMs: 0 });
  await client.expectEnd();
  open();
  await Promise.all([first, second]);
});

test('a flush that fails at the end is told, after everything is torn down', async () => {
  const disk = testDisk();
  const healthy = testDisk();
  const serve = await serving({
    exports: [
      { name: 'bad', device: disk.device },
      { name: 'again', device: disk.device },
      { name: 'good', device: healthy.device },
      { name: 'read', source: healthy.device },
    ],
  });
  disk.fail('flush', ioError);
  await assert.rejects(serve.server.close(), ioError);
  assert.deepEqual(disk.calls, ['flush']);
  assert.deepEqual(healthy.calls, ['flush']);
  await assert.rejects(rawClient(serve.path).then((client) => client.receive(1)));
});

test('the loop may be left to sleep between requests', async () => {
  await using serve = await serving({ ...oneExport(), spin: false });
  await using client = await serve.connected();
  client.send(request(0, 0, 1));
  await client.expect(`${simple()} 00`);
});

test('closing answers what had been sent before, also what nobody had read yet', async () => {
  const disk = testDisk();
  const serve = await serving({
    exports: [{ name: '', device: disk.device }],
    address: { host: '127.0.0.1', port: 0 },
  });
  const { address } = serve.server;
  assert.ok('port' in address);
  const clients = await Promise.all(Array.from({ length: 20 }, () => rawClient(address.port)));
  for (const client of clients) {
    await client.expect(greeting);
    client.send(`00000003 ${option(7, '00000000 0000')}`);
    assert.equal((await takeReplies(client)).at(-1), 1);
  }
  const count = 30;
  for (const client of clients) {
    const writes = Array.from({ length: count }, () => `${request(1, 0, 100)} ${'ab'.repeat(100)}`);
    await new Promise<void>((resolve) => {
      client.socket.write(Buffer.from(writes.join('').replace(/\s/g, ''), 'hex'), () => resolve());
    });
  }
  const closed = serve.server.close();
  for (const client of clients) {
    for (let index = 0; index < count; index++) {
      const reply = await client.receive(16);
      assert.ok([0, 108].includes(reply.readUInt32BE(4)), reply.toString('hex'));
    }
    await client.expectEnd();
  }
  await closed;
  await serve[Symbol.asyncDispose]();
});

// Other systems than Linux have one loopback address only.
const isLinux = { skip: process.platform === 'linux' ? false : 'needs a second loopback address' };

test('clients of one TCP address have their share of the places, and others theirs', isLinux, async () => {
  await using serve = await serving({
    ...oneExport(),
    address: { port: 0, host: '127.0.0.1' },
    maxConnectionsPerAddress: 2,
  });
  const { port } = serve.server.address as { port: number };
  const from = async (localAddress: string) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    await once(socket, 'connect');
    return rawClientOn(socket);
  };
  await using one = await from('127.0.0.1');
  await using two = await from('127.0.0.1');
  await using third = await from('127.0.0.1');
  await using other = await from('127.0.0.2');
  for (const client of [one, two, other]) await client.expect(greeting);
  assert.equal(serve.server.connections, 3);
  one.socket.destroy();
  await third.expect(greeting);
});
