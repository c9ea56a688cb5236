import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type BlockDevice, checkedDevice, DiskError, MemoryDevice } from '@strata/block';
import { type CuttingProxy, cuttingProxy, randomFrom, temporaryFolder } from '@strata/testkit';
import { type NbdConnection, openNbd } from '../../src/client/device.ts';
import { formatNbdUri, parseNbdUri } from '../../src/client/uri.ts';
import { listen } from '../../src/server/listen.ts';
import { type Serving, serving } from '../server/serving.ts';
import { type TestDisk, testDisk } from '../server/test-disk.ts';

interface Cuttable extends AsyncDisposable {
  readonly disk: TestDisk;
  readonly serve: Serving;
  readonly proxy: CuttingProxy;
  open(options?: {
    readonly reconnectDelayMs?: number;
    readonly connections?: number;
  }): Promise<NbdConnection>;
}

/** A server behind a proxy that cuts. */
async function cuttable(cutOf?: Parameters<typeof cuttingProxy>[2]): Promise<Cuttable> {
  const disk = testDisk({ size: 1 << 20 });
  const serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const path = serve.folder.file('proxy');
  const proxy = await cuttingProxy(path, serve.path, cutOf);
  return {
    disk,
    serve,
    proxy,
    open: (options) => openNbd(`nbd+unix:///?socket=${path}`, options),
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      await serve[Symbol.asyncDispose]();
    },
  };
}

const writable = ({ device }: NbdConnection): BlockDevice => device as BlockDevice;
const again = { reconnectDelayMs: 60_000 };

test('reads go on however often the connection is cut, and wherever', async () => {
  const random = randomFrom(77);
  await using all = await cuttable((index) =>
    index % 2 === 0
      ? { direction: 'up', after: 1500 + random.upTo(2000) }
      : { direction: 'down', after: 20_000 + random.upTo(80_000) },
  );
  all.disk.bytes.set(random.bytes(1 << 20));
  all.disk.setKind(0, 1 << 20, 'data');
  await using connection = await all.open({ ...again, connections: 2 });
  let next = 0;
  const readers = Array.from({ length: 8 }, async () => {
    for (let at = next; at < 1 << 20; at = next) {
      next += 4096;
      const found = Buffer.alloc(4096);
      await connection.source.read(found, at);
      assert.ok(found.equals(all.disk.bytes.subarray(at, at + 4096)), `bytes at ${at}`);
    }
  });
  await Promise.all(readers);
  assert.ok(all.proxy.connections > 4, `${all.proxy.connections} connections`);
});

test('a server that dies of everything that it is asked is given up', async () => {
  await using all = await cuttable();
  const connection = await all.open(again);
  all.disk.setKind(0, 4096, 'data');
  const open = all.disk.hold('read');
  const read = assert.rejects(connection.source.read(Buffer.alloc(512), 0), { code: 'closed' });
  const cutter = setInterval(() => all.proxy.cutAll(), 5);
  await read.finally(() => clearInterval(cutter));
  open();
  await connection[Symbol.asyncDispose]();
});

test('a write that has no answer is sent again, and block status is asked anew', async () => {
  await using all = await cuttable();
  await using connection = await all.open(again);
  const device = writable(connection);
  assert.equal((await device.extentAt(0, 4096)).kind, 'hole');
  const open = all.disk.hold('write');
  const written = device.write(Buffer.alloc(4096, 7), 0);
  while (all.disk.calls.filter((call) => call.startsWith('write')).length === 0) await turn();
  all.proxy.cutAll();
  while (all.disk.calls.filter((call) => call.startsWith('write')).length === 1) await turn();
  open();
  await written;
  assert.equal((await device.extentAt(0, 4096)).kind, 'data');
  await device.flush();
  assert.ok(all.disk.bytes.subarray(0, 4096).every((byte) => byte === 7));
});

test('writes that were answered and not flushed end all changes after a loss, and not the reading', async () => {
  await using all = await cuttable();
  const connection = await all.open(again);
  const device = writable(connection);
  await device.write(Buffer.alloc(512, 7), 0);
  all.proxy.cutAll();
  const found = Buffer.alloc(512);
  await device.read(found, 0);
  const lost = { code: 'io', message: /writes that were not flushed may be lost with the connection/ };
  for (const change of [
    () => device.write(Buffer.alloc(512, 8), 512),
    () => device.zero(0, 512),
    () => device.discard(0, 512),
    () => device.flush(),
    () => device.flush(),
  ]) {
    await assert.rejects(change(), lost);
  }
  await device.read(found, 0);
  await assert.rejects(connection[Symbol.asyncDispose]() as Promise<void>, lost);
});

test('writes that were flushed are safe, and a loss goes unnoticed', async () => {
  await using all = await cuttable();
  await using connection = await all.open(again);
  const device = writable(connection);
  for (let round = 1; round <= 5; round++) {
    await device.write(Buffer.alloc(512, round), 0);
    await device.flush();
    all.proxy.cutAll();
  }
  await device.flush();
  assert.equal(all.disk.bytes[0], 5);
});

test('a server that does not come back in time fails everything with the first reason', async () => {
  await using all = await cuttable();
  const connection = await all.open({ reconnectDelayMs: 120 });
  all.proxy.refusing = true;
  all.proxy.cutAll();
  const found = Buffer.alloc(512);
  const gone = { code: 'closed', message: /the server closed the connection|the connection broke/ };
  await assert.rejects(connection.source.read(found, 0), gone);
  all.proxy.refusing = false;
  await assert.rejects(connection.source.read(found, 0), gone);
  await connection[Symbol.asyncDispose]();
});

test('a server that comes back in time is waited for, in a short break or several', async () => {
  await using all = await cuttable();
  await using connection = await all.open(again);
  all.proxy.refusing = true;
  all.proxy.cutAll();
  const reads = [0, 512, 1024].map((at) => connection.source.read(Buffer.alloc(512), at));
  await new Promise((resolve) => setTimeout(resolve, 200));
  all.proxy.refusing = false;
  await Promise.all(reads);
});

test('closing ends the waiting for a server', async () => {
  await using all = await cuttable();
  const connection = await all.open(again);
  all.proxy.refusing = true;
  all.proxy.cutAll();
  const read = connection.source.read(Buffer.alloc(512), 0);
  const failed = assert.rejects(read, { code: 'closed' });
  await turn();
  await connection[Symbol.asyncDispose]();
  await failed;
});

test('an export that has changed meanwhile is not taken for the old one', async () => {
  await using folder = await temporaryFolder();
  const serve = (size: number) => {
    const device = checkedDevice(new MemoryDevice(size));
    return listen({ exports: [{ name: '', device }], address: { path: folder.file('s') } });
  };
  const first = await serve(65_536);
  const connection = await openNbd(`nbd+unix:///?socket=${folder.file('s')}`, again);
  await first.close();
  const second = await serve(131_072);
  await assert.rejects(connection.source.read(Buffer.alloc(512), 0), {
    code: 'protocol',
    message: 'the export has changed while the connection was lost',
  });
  await connection[Symbol.asyncDispose]();
  await second.close();
});

test('what a server refuses is not asked again', async () => {
  await using all = await cuttable();
  await using connection = await all.open(again);
  all.disk.setKind(0, 4096, 'data');
  all.disk.fail('read', new DiskError('io', 'broken'));
  await assert.rejects(connection.source.read(Buffer.alloc(512), 0), { code: 'io' });
  assert.equal(all.proxy.connections, 1);
});

for (const [claim, flush] of [
  ['an error', false],
  ['no error if they were flushed', true],
] as const) {
  test(`without reconnecting, closing after a loss of answered writes is ${claim}`, async () => {
    await using all = await cuttable();
    const connection = await all.open();
    await writable(connection).write(Buffer.alloc(512, 7), 0);
    if (flush) await writable(connection).flush();
    all.proxy.cutAll();
    await assert.rejects(connection.source.read(Buffer.alloc(512), 0), { code: 'closed' });
    const closed = connection[Symbol.asyncDispose]() as Promise<void>;
    if (flush) await closed;
    else await assert.rejects(closed, { code: 'io' });
  });
}

test('reconnect-delay of a URI is in seconds, and comes back', () => {
  const text = 'nbd+unix:///a?socket=/s&reconnect-delay=7';
  const target = parseNbdUri(text);
  assert.equal(target.reconnectDelayMs, 7000);
  assert.equal(formatNbdUri(target), text);
  for (const bad of ['', '-1', '1.5', 'x', '1000000']) {
    assert.throws(() => parseNbdUri(`nbd://h?reconnect-delay=${bad}`), { code: 'invalid' }, bad);
  }
});
