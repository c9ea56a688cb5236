import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Account, Budget } from '../../src/server/budget.ts';
import { BufferPool } from '../../src/server/buffer-pool.ts';
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

test('a disk that never answers is asked no more than 64 times by one client', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('flush');
  await using client = await serve.connected();
  client.send(request(3, 0, 0).repeat(200));
  await using other = await serve.connected();
  other.send(request(0, 0, 4));
  await other.expect(`${simple()} 00000000`);
  assert.equal(disk.calls.length, 64);
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

test('an account draws on the budget only beyond its allowance', () => {
  const budget = new Budget(100);
  const account = new Account(budget, 50);
  const other = new Account(budget, 0);
  let woken = 0;
  const wake = (): void => {
    woken++;
  };
  assert.equal(account.tryTake(50, wake), true);
  assert.equal(account.owed, 0);
  assert.equal(account.tryTake(60, wake), true);
  assert.equal(account.owed, 60);
  assert.equal(other.tryTake(41, wake), false);
  assert.equal(budget.wanted, true);
  account.give(50);
  assert.equal(woken, 1);
  assert.equal(other.tryTake(41, wake), true);
  assert.equal(account.tryTake(10, wake), false === account.owed + 10 + 41 > 100);
});

test('what is more than the whole budget is given to who is alone', () => {
  const budget = new Budget(100);
  assert.equal(budget.tryTake(500), true);
  assert.equal(budget.tryTake(1), false);
  budget.give(500);
  assert.equal(budget.tryTake(1), true);
});

test('the pool gives buffers back that fit, and keeps no more than it may', () => {
  const pool = new BufferPool(300 * 1024);
  const first = pool.take(256 * 1024 + 28);
  assert.ok(first.length >= 256 * 1024 + 28);
  pool.give(first);
  assert.equal(pool.take(200 * 1024), first);
  const small = pool.take(10);
  const large = pool.take(512 * 1024);
  pool.give(large);
  assert.notEqual(pool.take(512 * 1024), large);
  pool.give(small);
  assert.equal(pool.take(1), small);
});
