import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RawClient } from './raw-client.ts';
import { request, type Serving, serving, simple } from './serving.ts';
import { testDisk } from './test-disk.ts';

const MiB = 1024 * 1024;

/** Clients that send `bytes` over and over and read no reply, until the server takes no more from any. */
async function neverReading(serve: Serving, count: number, bytes: Buffer): Promise<readonly RawClient[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => serve.connected()));
  for (const client of clients) {
    client.socket.pause();
    // A write that stays in this process means that the server has stopped reading.
    for (let sent = 0; sent < 50 && client.socket.writableLength < 4 * bytes.length; sent++) {
      client.socket.write(bytes);
      await new Promise(setImmediate);
    }
    assert.ok(client.socket.writableLength > 0, 'the server went on reading');
  }
  return clients;
}

const repeated = (sent: string, times: number): Buffer =>
  Buffer.from(sent.replace(/\s/g, '').repeat(times), 'hex');

for (const slow of [false, true]) {
  for (const [claim, length] of [
    ['4 KiB', 4096],
    ['256 KiB', 256 * 1024],
    ['32 MiB', 32 * MiB],
  ] as const) {
    const how = slow ? 'from a disk that has to wait' : 'at once';
    test(`20 clients who ask for ${claim} ${how} and never read cost bounded memory`, async () => {
      const disk = testDisk({ size: 64 * MiB, slow });
      disk.setKind(0, 64 * MiB, 'data');
      await using serve = await serving({ exports: [{ name: '', source: disk.device }] });
      const before = process.memoryUsage().arrayBuffers;
      const clients = await neverReading(serve, 20, repeated(request(0, 0, length), 3000));
      const grown = process.memoryUsage().arrayBuffers - before;
      // 64 MiB of the budget, 32 MiB in the pool, and less than 2 MiB a connection.
      assert.ok(grown < 136 * MiB, `${Math.round(grown / MiB)} MiB`);

      await using other = await serve.connected();
      other.send(request(0, 0, 4));
      await other.expect(`${simple()} 00000000`);
      for (const client of clients) client.socket.destroy();
    });
  }
}

test('a disk that never answers is asked no more than 16 times by one client', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('flush');
  await using client = await serve.connected();
  client.send(request(3, 0, 0).repeat(200));
  await using other = await serve.connected();
  other.send(request(0, 0, 4));
  await other.expect(`${simple()} 00000000`);
  assert.equal(disk.calls.length, 16);
  open();
  await client.expect(simple().repeat(200));
});

test('large requests wait for room in the budget and are served when there is some', async () => {
  const disk = testDisk({ size: 64 * MiB });
  disk.setKind(0, 64 * MiB, 'data');
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('read');
  const clients = await Promise.all(Array.from({ length: 4 }, () => serve.connected()));
  for (const client of clients) client.send(request(0, 0, 30 * MiB));
  await using small = await serve.connected();
  small.send(request(3, 0, 0));
  await small.expect(simple());
  assert.equal(disk.calls.filter((call) => call.startsWith('read')).length, 2);
  open();
  for (const client of clients) {
    await client.expect(simple());
    await client.receive(30 * MiB);
  }
});

test('clients who hold memory that others wait for, and move nothing, are cut off', async () => {
  const disk = testDisk({ size: 64 * MiB });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }], stalledMs: 40 });
  const stalled = await Promise.all([serve.connected(), serve.connected()]);
  for (const client of stalled) {
    client.send(request(1, 0, 32 * MiB));
    client.send(Buffer.alloc(MiB));
  }
  await using idle = await serve.connected();
  await using waiting = await serve.connected();
  waiting.send(request(0, 0, 32 * MiB));
  await waiting.expect(simple());
  await waiting.receive(32 * MiB);
  for (const client of stalled) await client.expectEnd();
  idle.send(request(3, 0, 0));
  await idle.expect(simple());
});

test('clients who hold memory that nobody waits for may take their time', async () => {
  const disk = testDisk({ size: 64 * MiB });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }], stalledMs: 4 });
  await using client = await serve.connected();
  client.send(request(1, 0, 32 * MiB));
  client.send(Buffer.alloc(MiB));
  for (let checks = 0; checks < 12; checks++) await new Promise((resolve) => setTimeout(resolve, 1));
  client.send(Buffer.alloc(31 * MiB));
  await client.expect(simple());
});
