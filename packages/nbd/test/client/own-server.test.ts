import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  type BlockDevice,
  type BlockSource,
  DiskError,
  type ErrorCode,
  type Extent,
  isDiskError,
  MemoryDevice,
} from '@strata/block';
import { nbdkit, requires, temporaryFolder } from '@strata/testkit';
import fc from 'fast-check';
import { type NbdConnection, openNbd } from '../../src/client/device.ts';
import { listExports } from '../../src/client/list.ts';
import { formatNbdUri } from '../../src/client/uri.ts';
import { listen } from '../../src/server/listen.ts';
import { serving } from '../server/serving.ts';
import { testDisk } from '../server/test-disk.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

function deviceOf({ device }: NbdConnection): BlockDevice {
  assert.ok(device !== undefined, 'the export is writable');
  return device;
}

/** `device`, whose calls take effect after a random number of turns. */
function jittery(device: BlockDevice, random: () => number): BlockDevice {
  const late = async <T>(call: () => Promise<T>): Promise<T> => {
    for (let turns = Math.floor(random() * 4); turns > 0; turns--) await nextTurn();
    return call();
  };
  return {
    size: device.size,
    caps: device.caps,
    read: (into, offset) => late(() => device.read(into, offset)),
    tryRead: () => false,
    extentAt: (offset, limit) => device.extentAt(offset, limit),
    tryExtentAt: () => undefined,
    write: (from, offset) => late(() => device.write(from, offset)),
    zero: (offset, length, how) => late(() => device.zero(offset, length, how)),
    discard: (offset, length) => device.discard(offset, length),
    flush: () => device.flush(),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** The same numbers for the same seed. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Rounds of random reads, writes and zeros in flight together, overlapping as they like. What is there afterwards is
 * what the writes would have left one after the other, and reads saw what they had to.
 */
async function storm(disk: BlockDevice, seed: number, rounds: number): Promise<void> {
  const random = generator(seed);
  const oracle = Buffer.alloc(disk.size);
  for (let round = 0; round < rounds; round++) {
    const before = Buffer.from(oracle);
    const touched = Buffer.alloc(disk.size);
    const reads: { readonly offset: number; readonly into: Buffer }[] = [];
    const calls = Array.from({ length: 500 }, () => {
      const offset = Math.floor(random() * disk.size);
      const most = random() < 0.05 ? 300 * KiB : random() < 0.5 ? 9000 : 700;
      const length = Math.min(1 + Math.floor(random() * most), disk.size - offset);
      if (random() < 0.3) {
        const into = Buffer.alloc(length);
        reads.push({ offset, into });
        return disk.read(into, offset);
      }
      const value = random() < 0.7 ? 1 + Math.floor(random() * 255) : 0;
      oracle.fill(value, offset, offset + length);
      touched.fill(1, offset, offset + length);
      return value === 0 ? disk.zero(offset, length) : disk.write(Buffer.alloc(length, value), offset);
    });
    await Promise.all(calls);
    const where = `seed ${seed}, round ${round}`;
    for (const { offset, into } of reads) {
      const bad = into.findIndex((byte, at) => touched[offset + at] === 0 && byte !== before[offset + at]);
      assert.equal(bad, -1, `${where}: byte ${offset + bad} was read as ${into[bad]}`);
    }
    const now = Buffer.alloc(disk.size);
    await disk.read(now, 0);
    const bad = now.findIndex((byte, at) => byte !== oracle[at]);
    assert.equal(bad, -1, `${where}: byte ${bad} is ${now[bad]}, not ${oracle[bad]}`);
  }
}

for (const connections of [1, 4]) {
  test(`thousands of overlapping requests over ${connections} connections leave what their order says`, async () => {
    const seed = Math.floor(Math.random() * 2 ** 32);
    const disk = jittery(new MemoryDevice(2 * MiB), generator(seed));
    await using served = await serving({ exports: [{ name: '', device: disk }] });
    await using connection = await openNbd(served.uri(), { connections });
    await storm(deviceOf(connection), seed, 8);
  });
}

test(
  'the same holds on a server with large blocks, where writes must read first',
  requires('nbdkit'),
  async () => {
    const seed = Math.floor(Math.random() * 2 ** 32);
    await using folder = await temporaryFolder();
    const policy = ['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=65536'];
    const args = ['--filter=blocksize-policy', '--filter=delay', 'memory', '1M', ...policy];
    const late = ['blocksize-error-policy=error', 'rdelay=2ms', 'wdelay=1ms'];
    await using _server = await nbdkit(folder.file('s'), [...args, ...late]);
    const target = { address: { path: folder.file('s') }, exportName: '', user: undefined };
    await using connection = await openNbd(target, { connections: 2 });
    await storm(deviceOf(connection), seed, 2);
  },
);

test('kinds and depths of extents come through, as far as the protocol can say them', async () => {
  const disk = testDisk({ size: 1 * MiB });
  const put = (block: number, kind: Extent['kind'], depth: number): void =>
    disk.setKind(block * 4096, 4096, kind, depth);
  put(1, 'data', 1);
  put(2, 'data', 3);
  put(3, 'compressed', 2);
  put(4, 'zero', 2);
  put(5, 'zero-allocated', 1);
  await using served = await serving({ exports: [{ name: '', source: disk.device }] });
  await using connection = await openNbd(served.uri());
  assert.deepEqual(connection.info.contexts, ['base:allocation', 'qemu:allocation-depth']);
  const found: (readonly [number, string, number])[] = [];
  for (let offset = 0; offset < MiB; ) {
    const { length, kind, depth } = await connection.source.extentAt(offset, MiB - offset);
    found.push([length / 4096, kind, depth]);
    offset += length;
  }
  assert.deepEqual(found, [
    [1, 'hole', 0],
    [1, 'data', 1],
    [1, 'data', 3],
    [1, 'data', 2],
    [1, 'zero', 2],
    [1, 'zero', 1],
    [250, 'hole', 0],
  ]);
});

test('any layout of extents is walked as it is, in steps of any size', async () => {
  const kinds = fc.constantFrom<Extent['kind']>('data', 'zero', 'hole');
  const block = fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 40 }), kinds, fc.integer({ min: 1, max: 3 }));
  const walk = async (
    layout: readonly [number, number, Extent['kind'], number][],
    limit: number,
  ): Promise<void> => {
    const disk = testDisk({ size: MiB });
    for (const [first, count, kind, depth] of layout) {
      const length = Math.min(count, 256 - first) * 4096;
      disk.setKind(first * 4096, length, kind, kind === 'hole' ? 0 : depth);
    }
    await using served = await serving({ exports: [{ name: '', source: disk.device }] });
    await using connection = await openNbd(served.uri());
    for (let offset = 0; offset < MiB; ) {
      const found = await connection.source.extentAt(offset, Math.min(limit, MiB - offset));
      for (let at = offset; at < offset + found.length; at += 4096) {
        const expected = await disk.device.extentAt(at, 1);
        assert.deepEqual([found.kind, found.depth], [expected.kind, expected.depth], `${at}`);
      }
      offset += found.length;
    }
  };
  const layouts = fc.array(block, { maxLength: 20 });
  await fc.assert(fc.asyncProperty(layouts, fc.integer({ min: 2000, max: 2 * MiB }), walk), { numRuns: 30 });
});

test('requests reach the disk of the server as they were meant', async () => {
  const disk = testDisk();
  await using served = await serving({ exports: [{ name: 'a b', device: disk.device }] });
  await using connection = await openNbd(served.uri('a b'));
  const device = deviceOf(connection);
  await device.zero(0, 512);
  await device.zero(0, 512, { allocate: true });
  await device.zero(0, 4096, { fast: true });
  await assert.rejects(device.zero(0, 512, { fast: true }), (error) => isDiskError(error, 'not-supported'));
  await device.discard(4096, 8192);
  await device.write(Buffer.alloc(3), 1);
  await device.flush();
  assert.deepEqual(
    disk.calls.filter((call) => !call.startsWith('extentAt')),
    ['zero 0+512', 'zero 0+512 allocate', 'zero 0+4096 fast', 'discard 4096+8192', 'write 1+3', 'flush'],
  );
});

for (const [given, got] of [
  ['io', 'io'],
  ['no-space', 'no-space'],
  ['denied', 'denied'],
  ['corrupt', 'io'],
] as const satisfies readonly (readonly [ErrorCode, ErrorCode])[]) {
  test(`a disk of the server that fails with '${given}' fails here with '${got}', and where`, async () => {
    const disk = testDisk({ slow: true });
    disk.setKind(0, 4096, 'data');
    await using served = await serving({ exports: [{ name: '', device: disk.device }] });
    await using connection = await openNbd(served.uri());
    const device = deviceOf(connection);
    const names = ['read', 'write', 'zero', 'discard', 'flush'];
    for (const op of names) disk.fail(op, new DiskError(given, 'it broke'));
    const results = await Promise.allSettled([
      device.read(Buffer.alloc(8), 512),
      device.write(Buffer.alloc(8), 512),
      device.zero(512, 8),
      device.discard(512, 4096),
      device.flush(),
    ]);
    const offsets = results.map((result) => {
      assert.ok(result.status === 'rejected' && isDiskError(result.reason, got), JSON.stringify(result));
      return result.reason.context.offset;
    });
    assert.deepEqual(offsets, [512, 512, 512, 512, 0]);
    for (const op of names) disk.fail(op, undefined);
    await device.read(Buffer.alloc(8), 512);
  });
}

/** Resolves when `condition` holds. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await nextTurn();
}

const twoAtOnce = (source: BlockSource): Promise<unknown> =>
  Promise.all([0, 512].map((offset) => source.read(Buffer.alloc(512), offset)));

test('one connection is enough for who asks one thing after the other', async () => {
  const { device } = testDisk();
  let made = 0;
  const observer = { connected: () => void made++ };
  await using served = await serving({ exports: [{ name: '', device }], observer });
  const connection = await openNbd(served.uri(), { connections: 4 });
  for (let offset = 0; offset < 8192; offset += 512) await connection.source.read(Buffer.alloc(512), offset);
  await connection.source.extentAt(0, 8192);
  await connection[Symbol.asyncDispose]();
  assert.equal(made, 1);
});

test('as many connections as asked for are made, and end with the disk', async () => {
  const { device } = testDisk();
  await using served = await serving({ exports: [{ name: '', device }] });
  const connection = await openNbd(served.uri(), { connections: 4 });
  await twoAtOnce(connection.source);
  await until(() => served.server.connections === 4);
  await connection[Symbol.asyncDispose]();
  await until(() => served.server.connections === 0);
});

test('a server that grants one connection is used with one', async () => {
  const { device } = testDisk();
  await using served = await serving({ exports: [{ name: '', device }], maxConnections: 1 });
  await using connection = await openNbd(served.uri(), { connections: 4 });
  await connection.source.read(Buffer.alloc(512), 0);
  assert.equal(served.server.connections, 1);
});

test('a server that grants two of four connections is used with two', async () => {
  const { device } = testDisk();
  await using served = await serving({ exports: [{ name: '', device }], maxConnections: 2 });
  const connection = await openNbd(served.uri(), { connections: 4, connectTimeoutMs: 60_000 });
  await twoAtOnce(connection.source);
  await until(() => served.server.connections === 2);
  await Promise.all(Array.from({ length: 20 }, () => connection.source.read(Buffer.alloc(512), 0)));
  await connection[Symbol.asyncDispose]();
});

test('a server that stops answers what is under way, and then the disk is closed', async () => {
  const disk = testDisk({ slow: true });
  disk.setKind(0, 4096, 'data');
  await using served = await serving({ exports: [{ name: '', device: disk.device }] });
  const connection = await openNbd(served.uri());
  const device = deviceOf(connection);
  const go = disk.hold('read');
  const read = device.read(Buffer.alloc(8), 0);
  await until(() => disk.calls.some((call) => call.startsWith('read')));
  const closed = served.server.close();
  go();
  await read;
  await closed;
  await assert.rejects(device.read(Buffer.alloc(8), 0), (error) => isDiskError(error, 'closed'));
  await assert.rejects(device.flush(), (error) => isDiskError(error, 'closed'));
  await connection[Symbol.asyncDispose]();
});

test('a TCP server is reached by name and by number, and its exports are listed', async () => {
  const { device } = testDisk({ size: 4096 });
  const exports = [
    { name: 'a', device, description: 'the first' },
    { name: '', source: device },
  ];
  await using server = await listen({ exports, address: { host: '127.0.0.1', port: 0 } });
  assert.ok('port' in server.address);
  const { port } = server.address;
  for (const host of ['localhost', '127.0.0.1']) {
    const target = { address: { host, port }, exportName: 'a', user: undefined };
    await using connection = await openNbd(formatNbdUri(target));
    assert.equal(connection.info.description, 'the first');
    assert.equal((await connection.source.extentAt(0, 4096)).length, 4096);
  }
  await using legacy = await openNbd(`nbd:127.0.0.1:${port}`);
  assert.equal(legacy.device, undefined);
  assert.deepEqual(await listExports({ host: '127.0.0.1', port }), [
    { name: 'a', description: 'the first' },
    { name: '', description: undefined },
  ]);
});

test('a disk served again from a client is the same disk', async () => {
  const disk = testDisk({ size: MiB });
  await using near = await serving({ exports: [{ name: '', device: disk.device }] });
  await using inner = await openNbd(near.uri());
  await using far = await serving({ exports: [{ name: '', device: deviceOf(inner) }] });
  await using outer = await openNbd(far.uri());
  const bytes = Buffer.alloc(300_000, 'strata ');
  await deviceOf(outer).write(bytes, 1234);
  await deviceOf(outer).flush();
  const back = Buffer.alloc(bytes.length);
  await outer.source.read(back, 1234);
  assert.ok(back.equals(bytes));
  assert.ok(disk.bytes.subarray(1234, 1234 + bytes.length).equals(bytes));
});
