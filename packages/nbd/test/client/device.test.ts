import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { type BlockDevice, type BlockSource, type Extent, isDiskError } from '@strata/block';
import { nbdkit, qemuImg, qemuIo, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { type NbdConnection, type OpenNbdOptions, openNbd } from '../../src/client/device.ts';
import { formatNbdUri } from '../../src/client/uri.ts';
import { socketServer } from './socket-server.ts';

const MiB = 1024 * 1024;
const uri = (path: string, exportName = ''): string =>
  formatNbdUri({ address: { path }, exportName, user: undefined });

/** Opens an export of `nbdkit` with these arguments; both end with the scope. */
async function kit(args: readonly string[], options?: OpenNbdOptions) {
  const folder = await temporaryFolder();
  const server = await nbdkit(folder.file('s'), args);
  const connection = await openNbd(uri(folder.file('s')), options);
  const dispose = async (): Promise<void> => {
    await connection[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  };
  return {
    connection,
    server,
    uri: uri(folder.file('s')),
    get disk() {
      return deviceOf(connection);
    },
    [Symbol.asyncDispose]: dispose,
  };
}

function deviceOf({ device }: NbdConnection): BlockDevice {
  assert.ok(device !== undefined, 'the export is writable');
  return device;
}

async function bytes(source: BlockSource, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length, 0xee);
  await source.read(into, offset);
  return into;
}

async function extents(source: BlockSource): Promise<readonly Extent[]> {
  const found: Extent[] = [];
  for (let offset = 0; offset < source.size; ) {
    const extent = await source.extentAt(offset, source.size - offset);
    const last = found.at(-1);
    if (last?.kind === extent.kind && last.depth === extent.depth) {
      found[found.length - 1] = { ...last, length: last.length + extent.length };
    } else found.push(extent);
    offset += extent.length;
  }
  return found;
}

test('what is written to qemu-nbd is in the image', requires('qemu-img', 'qemu-nbd'), async () => {
  await using folder = await temporaryFolder();
  await qemuImg.create(folder.file('a'), '8M', { format: 'raw' });
  {
    await using _server = await qemuNbd(folder.file('a'), folder.file('s'), ['-f', 'raw']);
    await using connection = await openNbd(uri(folder.file('s')));
    const disk = deviceOf(connection);
    assert.deepEqual(disk.caps, { blockSize: 1, zero: 'native', discard: 'native' });
    await disk.write(Buffer.alloc(3 * MiB, 0x11), 1000);
    await disk.zero(MiB, 1000);
    await disk.zero(MiB + 5000, 1000, { allocate: true });
    await disk.write(Buffer.from('end'), 8 * MiB - 3);
    await disk.flush();
    assert.deepEqual(await bytes(disk, 999, 3), Buffer.from([0, 0x11, 0x11]));
  }
  const expected = Buffer.alloc(8 * MiB);
  expected.fill(0x11, 1000, 1000 + 3 * MiB);
  expected.fill(0, MiB, MiB + 1000);
  expected.fill(0, MiB + 5000, MiB + 6000);
  expected.write('end', 8 * MiB - 3);
  assert.ok((await readFile(folder.file('a'))).equals(expected));
});

/** A backing file with data at 1 M and 3 M, an overlay with data at 2 M and zeros at 3 M. */
async function chain(folder: { file(name: string): string }): Promise<string> {
  await qemuImg.create(folder.file('base'), '10M');
  await qemuIo(folder.file('base'), ['write -P 1 1M 64k', 'write -P 3 3M 128k']);
  const backing = { name: folder.file('base'), format: 'qcow2' };
  await qemuImg.create(folder.file('top'), '10M', { backing });
  await qemuIo(folder.file('top'), ['write -P 2 2M 64k', 'write -z 3M 64k']);
  return folder.file('top');
}

test(
  'the depths of a chain come from qemu:allocation-depth',
  requires('qemu-img', 'qemu-io', 'qemu-nbd'),
  async () => {
    await using folder = await temporaryFolder();
    const top = await chain(folder);
    await using _server = await qemuNbd(top, folder.file('s'), ['-f', 'qcow2', '-A', '-r', '-x', 'top']);
    await using connection = await openNbd(uri(folder.file('s'), 'top'));
    const at = (offset: number, length: number, kind: Extent['kind'], depth: number): Extent => ({
      offset,
      length,
      kind,
      depth,
    });
    assert.deepEqual(await extents(connection.source), [
      at(0, MiB, 'hole', 0),
      at(MiB, 65536, 'data', 2),
      at(MiB + 65536, MiB - 65536, 'hole', 0),
      at(2 * MiB, 65536, 'data', 1),
      at(2 * MiB + 65536, MiB - 65536, 'hole', 0),
      at(3 * MiB, 65536, 'zero', 1),
      at(3 * MiB + 65536, 65536, 'data', 2),
      at(3 * MiB + 131072, 7 * MiB - 131072, 'hole', 0),
    ]);
    assert.equal(connection.device, undefined, 'a read-only export has no device');
    assert.equal(connection.info.isReadOnly, true);
    assert.ok(
      (await bytes(connection.source, 3 * MiB, 131072)).equals(Buffer.alloc(131072, 3).fill(0, 0, 65536)),
    );
  },
);

test(
  'without allocation depth everything has depth 1',
  requires('qemu-img', 'qemu-io', 'qemu-nbd'),
  async () => {
    await using folder = await temporaryFolder();
    await using _server = await qemuNbd(await chain(folder), folder.file('s'), ['-f', 'qcow2']);
    await using connection = await openNbd(uri(folder.file('s')));
    assert.deepEqual(connection.info.contexts, ['base:allocation']);
    const found = await extents(connection.source);
    assert.deepEqual(
      found.map(({ kind, depth }) => [kind, depth]),
      ['zero', 'data', 'zero', 'data', 'zero', 'data', 'zero'].map((kind) => [kind, 1]),
    );
  },
);

test(
  'walking the extents of a reply asks once, and a write makes the rest out of date',
  requires('nbdkit'),
  async () => {
    await using folder = await temporaryFolder();
    const log = folder.file('log');
    const pieces = Array.from({ length: 100 }, (_, index) => `@${index * 65536} 1`).join(' ');
    await using served = await kit(['--filter=log', 'data', pieces, 'size=8M', `logfile=${log}`]);
    const { disk } = served;
    const asked = async (): Promise<number> =>
      (await readFile(log, 'utf8')).match(/ Extents id=/g)?.length ?? 0;
    assert.equal((await extents(disk)).length, 200);
    assert.equal(await asked(), 1);
    assert.equal(disk.tryExtentAt(0, MiB), undefined, 'what was walked is not told again');
    const first = await disk.extentAt(0, disk.size);
    assert.ok(disk.tryExtentAt(first.length, MiB) !== undefined);
    await disk.write(Buffer.alloc(1), 0);
    assert.equal(disk.tryExtentAt(first.length, MiB), undefined);
  },
);

test('a walk in small steps asks for more each time', requires('nbdkit'), async () => {
  await using folder = await temporaryFolder();
  const log = folder.file('log');
  await using served = await kit(['--filter=log', 'memory', '64M', `logfile=${log}`]);
  const { source } = served.connection;
  for (let offset = 0; offset < source.size; offset += 65536) await source.extentAt(offset, 65536);
  const asked = (await readFile(log, 'utf8')).match(/ Extents id=/g)?.length ?? 0;
  assert.ok(asked <= 11, `1024 steps took ${asked} requests`);
});

test('a dirty bitmap is a context like any other', requires('qemu-img', 'qemu-io', 'qemu-nbd'), async () => {
  await using folder = await temporaryFolder();
  await qemuImg.create(folder.file('a'), '4M');
  await qemuImg.ok('bitmap', '--add', '-g', '64k', folder.file('a'), 'b0');
  await qemuIo(folder.file('a'), ['write 1M 100k']);
  const args = ['-f', 'qcow2', '-r', '-B', 'b0'];
  await using _server = await qemuNbd(folder.file('a'), folder.file('s'), args);
  const name = 'qemu:dirty-bitmap:b0';
  await using connection = await openNbd(uri(folder.file('s')), { contexts: [name] });
  const runs = [];
  for (let offset = 0; offset < connection.info.size; ) {
    const run = await connection.contextAt(name, offset, connection.info.size);
    runs.push(run);
    offset += run.length;
  }
  assert.deepEqual(runs, [
    { offset: 0, length: MiB, flags: 0 },
    { offset: MiB, length: 131072, flags: 1 },
    { offset: MiB + 131072, length: 3 * MiB - 131072, flags: 0 },
  ]);
  await assert.rejects(connection.contextAt('x:y', 0, 1), (error) => isDiskError(error, 'not-found'));
  await assert.rejects(connection.contextAt(name, connection.info.size, 1), RangeError);
});

test(
  'an export that is not there is not found, with the server and the URI',
  requires('qemu-img', 'qemu-nbd'),
  async () => {
    await using folder = await temporaryFolder();
    await qemuImg.create(folder.file('a'), '1M', { format: 'raw' });
    await using _server = await qemuNbd(folder.file('a'), folder.file('s'), ['-f', 'raw', '-x', 'a']);
    await assert.rejects(openNbd(uri(folder.file('s'), 'b')), (error) => {
      assert.ok(isDiskError(error, 'not-found'));
      assert.equal(error.message, "Requested export not available (server reported: export 'b' not present)");
      assert.equal(error.context.path, uri(folder.file('s'), 'b'));
      return true;
    });
  },
);

for (const [claim, args] of [
  ['structured replies', []],
  ['simple replies only', ['--no-sr']],
  ['a newstyle handshake that is not fixed', ['--mask-handshake=0']],
  ['a handshake with 124 reserved bytes', ['--mask-handshake=1']],
  ['everything but zeroing', ['--filter=nozero']],
] as const) {
  test(`nbdkit with ${claim} takes and gives the same bytes`, requires('nbdkit'), async () => {
    await using served = await kit([...args, 'memory', '128M']);
    const { disk } = served;
    const large = Buffer.allocUnsafe(70 * MiB);
    for (let at = 0; at < large.length; at += 4) large.writeUInt32LE((at * 2654435761) >>> 0, at);
    await disk.write(large, 12345);
    await disk.zero(20 * MiB, 5 * MiB);
    large.fill(0, 20 * MiB - 12345, 25 * MiB - 12345);
    assert.ok((await bytes(disk, 12345, large.length)).equals(large));
    assert.deepEqual(await bytes(disk, 12343, 3), Buffer.from([0, 0, large[0] as number]));
    await disk.discard(0, MiB);
    await disk.flush();
  });
}

test('the one export of an oldstyle server is read and written', requires('nbdkit'), async () => {
  await using folder = await temporaryFolder();
  await using _server = await nbdkit(folder.file('s'), ['-o', 'memory', '1M']);
  await using connection = await openNbd(uri(folder.file('s')));
  const disk = deviceOf(connection);
  assert.equal(disk.size, MiB);
  // nbdkit 1.32 offers FLUSH to such clients and then refuses it.
  await disk.write(Buffer.from('abc'), MiB - 3);
  assert.deepEqual(await bytes(disk, MiB - 4, 4), Buffer.from('\0abc'));
  await assert.rejects(openNbd(uri(folder.file('s'), 'name')), (error) => isDiskError(error, 'not-found'));
});

test('ranges of more than 4 GiB are zeroed and discarded', requires('nbdkit'), async () => {
  await using served = await kit(['memory', '16G']);
  const { disk } = served;
  const where = [0, 2 ** 30 - 1, 2 ** 32, 9 * 2 ** 30];
  for (const offset of where) await disk.write(Buffer.from([1]), offset);
  await disk.zero(0, 10 * 2 ** 30);
  await disk.zero(0, disk.size, { fast: true });
  await disk.discard(0, disk.size);
  for (const offset of where) assert.deepEqual(await bytes(disk, offset, 1), Buffer.from([0]));
  assert.deepEqual(await extents(disk), [{ offset: 0, length: disk.size, kind: 'zero', depth: 1 }]);
});

test(
  'a fast zero is refused where zeros would be written, and changes nothing',
  requires('nbdkit'),
  async () => {
    for (const filter of [
      ['--filter=nozero', 'memory', '1M'],
      ['--filter=nozero', 'memory', '1M', 'fastzeromode=slow'],
      ['--filter=nozero', 'memory', '1M', 'fastzeromode=none'],
    ]) {
      await using served = await kit(filter);
      const { disk } = served;
      await disk.write(Buffer.alloc(4096, 5), 0);
      await assert.rejects(disk.zero(0, 4096, { fast: true }), (error) =>
        isDiskError(error, 'not-supported'),
      );
      assert.ok((await bytes(disk, 0, 4096)).equals(Buffer.alloc(4096, 5)));
      await disk.zero(0, 4096);
      assert.ok((await bytes(disk, 0, 4096)).equals(Buffer.alloc(4096)));
    }
  },
);

test('a minimum block and a maximum payload are obeyed', requires('nbdkit'), async () => {
  const policy = ['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=65536'];
  const args = ['--filter=blocksize-policy', 'memory', '1M', ...policy, 'blocksize-error-policy=error'];
  await using served = await kit(args);
  const { disk, connection } = served;
  assert.deepEqual(connection.info.blockSizes, { minimum: 4096, preferred: 4096, maximumPayload: 65536 });
  assert.equal(disk.caps.blockSize, 4096);
  const oracle = Buffer.alloc(MiB);
  const change = async (offset: number, length: number, value: number): Promise<void> => {
    oracle.fill(value, offset, offset + length);
    if (value === 0) await disk.zero(offset, length);
    else await disk.write(Buffer.alloc(length, value), offset);
  };
  await change(1, 1, 1);
  await change(4095, 2, 2);
  await change(5000, 300_000, 3);
  await change(8192, 4096, 4);
  await change(100_001, 99_999, 0);
  await change(MiB - 1, 1, 5);
  await change(70_000, 10, 0);
  await disk.discard(1, 8000);
  oracle.fill(0, 4096, 4096);
  for (const [offset, length] of [
    [0, MiB],
    [1, 10],
    [4095, 200_003],
    [MiB - 5000, 5000],
  ] as const) {
    assert.ok(
      (await bytes(disk, offset, length)).equals(oracle.subarray(offset, offset + length)),
      `${offset}`,
    );
  }
  assert.deepEqual(await disk.extentAt(4097, 100), { offset: 4097, length: 100, kind: 'data', depth: 1 });
  await assert.rejects(disk.zero(1, 5, { fast: true }), (error) => isDiskError(error, 'not-supported'));
});

test(
  'a read that fails on the server fails with its offset, and the next one works',
  requires('nbdkit'),
  async () => {
    await using served = await kit([
      ...['--filter=error', 'memory', '1M', 'error=EIO', 'error-pread-rate=100%'],
    ]);
    const { disk } = served;
    await assert.rejects(disk.read(Buffer.alloc(512), 8192), (error) => {
      assert.ok(isDiskError(error, 'io'));
      assert.match(error.message, /Input\/output error/);
      assert.deepEqual(error.context, { path: served.uri, op: 'read', offset: 8192 });
      return true;
    });
    await disk.write(Buffer.alloc(512), 8192);
  },
);

test('a write to a full disk has no space', requires('nbdkit'), async () => {
  await using served = await kit([
    '--filter=error',
    'memory',
    '1M',
    'error=ENOSPC',
    'error-pwrite-rate=100%',
  ]);
  await assert.rejects(served.disk.write(Buffer.alloc(512), 0), (error) => isDiskError(error, 'no-space'));
});

test('random errors among thousands of reads reach exactly their callers', requires('nbdkit'), async () => {
  const args = ['--filter=error', 'pattern', '16M', 'error=EIO', 'error-pread-rate=10%'];
  await using served = await kit(args, { connections: 4 });
  const { source } = served.connection;
  const attempts = Array.from({ length: 4000 }, async (_, index) => {
    const into = await bytes(source, index * 4096, 4096);
    assert.equal(into.readBigUInt64BE(8), BigInt(index * 4096 + 8));
  });
  const failed = (await Promise.allSettled(attempts)).filter((result) => result.status === 'rejected');
  assert.ok(failed.length > 200 && failed.length < 800, `${failed.length}`);
  for (const { reason } of failed) assert.ok(isDiskError(reason, 'io'), String(reason));
});

test('disposing waits for what is in flight', requires('nbdkit'), async () => {
  await using served = await kit(['--filter=delay', 'memory', '1M', 'rdelay=200ms']);
  const { disk } = served;
  const order: string[] = [];
  const reads = Promise.all(Array.from({ length: 8 }, (_, index) => bytes(disk, index * 512, 512)));
  const read = reads.then(() => order.push('read'));
  await disk[Symbol.asyncDispose]().then(() => order.push('closed'));
  await read;
  assert.deepEqual(order, ['read', 'closed']);
  await assert.rejects(bytes(disk, 0, 1), (error) => isDiskError(error, 'closed'));
});

test('a server that dies fails what is in flight and everything after', requires('nbdkit'), async () => {
  await using served = await kit(['--filter=delay', 'memory', '1M', 'rdelay=60']);
  const { disk, server } = served;
  const reads = Promise.allSettled(Array.from({ length: 300 }, (_, index) => bytes(disk, index * 512, 512)));
  await new Promise((resolve) => setImmediate(resolve));
  server.process.kill('SIGKILL');
  for (const result of await reads)
    assert.ok(result.status === 'rejected' && isDiskError(result.reason, 'closed'));
  await assert.rejects(disk.flush(), (error) => isDiskError(error, 'closed'));
  await assert.rejects(disk.write(Buffer.alloc(1), 0), (error) => isDiskError(error, 'closed'));
});

test('nbdkit serves a file, and what we wrote is in it', requires('nbdkit', 'qemu-img'), async () => {
  await using folder = await temporaryFolder();
  await qemuImg.create(folder.file('a'), '1M', { format: 'raw' });
  {
    await using _server = await nbdkit(folder.file('s'), ['file', folder.file('a')]);
    await using connection = await openNbd({
      address: { path: folder.file('s') },
      exportName: '',
      user: undefined,
    });
    await deviceOf(connection).write(Buffer.alloc(65536, 7), 65536);
  }
  const expected = Buffer.alloc(MiB).fill(7, 65536, 131072);
  assert.ok((await readFile(folder.file('a'))).equals(expected));
});

test('what cannot be reached says why', async () => {
  await using folder = await temporaryFolder();
  const missing = folder.file('missing');
  await assert.rejects(openNbd(uri(missing)), (error) => {
    assert.ok(isDiskError(error, 'not-found'));
    assert.equal(error.message, `Failed to connect to '${missing}': No such file or directory`);
    return true;
  });
  await assert.rejects(
    openNbd(uri(`/${'x'.repeat(107)}`)),
    (error) => isDiskError(error, 'invalid') && /too long/.test(error.message),
  );
  await assert.rejects(openNbd('nbd+vsock://2/'), (error) => isDiskError(error, 'not-supported'));
});

test('a server that never speaks is given up at the deadline or the signal', async () => {
  await using silent = await socketServer();
  await assert.rejects(
    openNbd(uri(silent.path), { connectTimeoutMs: 20 }),
    (error) => isDiskError(error, 'io') && error.context.path === uri(silent.path),
  );
  const controller = new AbortController();
  const seen = silent.next().then(() => controller.abort());
  const { signal } = controller;
  await assert.rejects(openNbd(uri(silent.path), { signal }), (error) => isDiskError(error, 'aborted'));
  await seen;
});
