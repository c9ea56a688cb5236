import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { checkedDevice, MemoryDevice, openFile } from '@strata/block';
import { nbdinfo, qemuImg, qemuIo, qemuNbd, requires, run, runOk, temporaryFolder } from '@strata/testkit';
import { type Serving, serving } from './serving.ts';
import { testDisk } from './test-disk.ts';

const MiB = 1024 * 1024;

/** 16 MiB: data at both ends and some in between, holes elsewhere. */
function sparseFile(path: string): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, 16 * MiB);
  for (const [at, length] of [
    [0, 300_000],
    [5 * MiB, 65_536],
    [16 * MiB - 4096, 4096],
  ] as const) {
    const bytes = Buffer.alloc(length);
    for (let index = 0; index < length; index++) bytes[index] = 1 + ((index * 7 + (index >> 9)) % 255);
    writeSync(fd, bytes, 0, length, at);
  }
  closeSync(fd);
}

/** Serves a sparse file, writable as `` and read-only as `ro`. */
async function servingFile(): Promise<Serving & { readonly file: string }> {
  const folder = await temporaryFolder();
  const file = folder.file('disk.raw');
  sparseFile(file);
  const device = checkedDevice(await openFile(file, { access: 'write' }));
  const serve = await serving({
    exports: [
      { name: '', device, description: 'a sparse file' },
      { name: 'ro', source: device },
    ],
  });
  return {
    ...serve,
    file,
    [Symbol.asyncDispose]: async () => {
      await serve[Symbol.asyncDispose]();
      await device[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const nbdsh = (uri: string, ...lines: readonly string[]) =>
  run('nbdsh', ['-u', uri, '-c', lines.join('\n')], { env: { PATH: '/usr/bin:/bin' } });

test(
  'nbdinfo lists the exports with what qemu-nbd says of the same file',
  requires('nbdinfo', 'qemu-nbd'),
  async () => {
    await using serve = await servingFile();
    const [ours, readOnly] = (await nbdinfo.json(serve.uri(), '--list'))['exports'] as Record<
      string,
      unknown
    >[];
    await using folder = await temporaryFolder();
    const qemu = async (...args: readonly string[]) => {
      await using _server = await qemuNbd(serve.file, folder.file('qemu'), ['-f', 'raw', '-A', ...args]);
      const told = await nbdinfo.json(`nbd+unix:///?socket=${folder.file('qemu')}`, '--list');
      return (told['exports'] as Record<string, unknown>[])[0];
    };
    const theirs = await qemu('-D', 'a sparse file');
    assert.deepEqual({ ...ours, uri: '' }, { ...theirs, uri: '' });
    const theirReadOnly = await qemu('-r', '-x', 'ro');
    assert.deepEqual({ ...readOnly, uri: '' }, { ...theirReadOnly, uri: '' });
  },
);

test('nbdinfo maps a sparse file as qemu-nbd does', requires('nbdinfo', 'qemu-nbd'), async () => {
  await using serve = await servingFile();
  await using folder = await temporaryFolder();
  await using _server = await qemuNbd(serve.file, folder.file('qemu'), ['-f', 'raw', '-r', '-A']);
  for (const context of ['base:allocation', 'qemu:allocation-depth']) {
    const ours = await nbdinfo.map(serve.uri('ro'), context);
    assert.deepEqual(ours, await nbdinfo.map(`nbd+unix:///?socket=${folder.file('qemu')}`, context));
  }
});

test('nbdcopy copies out and in with four connections', requires('nbdcopy'), async () => {
  await using serve = await servingFile();
  await using folder = await temporaryFolder();
  const copy = folder.file('copy');
  await runOk('nbdcopy', ['--connections=4', serve.uri('ro'), copy]);
  const before = readFileSync(serve.file);
  assert.ok(readFileSync(copy).equals(before));
  const changed = Buffer.from(before.map((byte) => byte ^ 0x5a));
  writeFileSync(copy, changed);
  await runOk('nbdcopy', ['--connections=4', '--flush', copy, serve.uri()]);
  assert.ok(readFileSync(serve.file).equals(changed));
});

test('nbdcopy from our server to our server goes through, holes and all', requires('nbdcopy'), async () => {
  await using serve = await servingFile();
  const target = testDisk({ size: 16 * MiB });
  target.bytes.fill(0xee);
  await using to = await serving({ exports: [{ name: '', device: target.device }] });
  await runOk('nbdcopy', ['--flush', serve.uri('ro'), to.uri()]);
  assert.ok(target.bytes.equals(readFileSync(serve.file)));
  assert.ok(target.calls.some((call) => call.startsWith('zero')));
});

test('qemu-img converts from us and to us, and finds both equal', requires('qemu-img'), async () => {
  await using serve = await servingFile();
  await using folder = await temporaryFolder();
  const image = folder.file('image.qcow2');
  await qemuImg.ok('convert', '-f', 'raw', '-O', 'qcow2', serve.uri('ro'), image);
  await qemuImg.compare(serve.file, 'raw', image, 'qcow2');
  const target = testDisk({ size: 16 * MiB });
  target.bytes.fill(0xee);
  await using to = await serving({ exports: [{ name: 'target', device: target.device }] });
  await qemuImg.ok('convert', '-n', '-f', 'qcow2', '-O', 'raw', image, to.uri('target'));
  assert.ok(target.bytes.equals(readFileSync(serve.file)));
  await qemuImg.compare(to.uri('target'), 'raw', image, 'qcow2');
});

test('qemu-img map tells over us what it tells of the file', requires('qemu-img'), async () => {
  await using serve = await servingFile();
  const places = async (path: string) =>
    (await qemuImg.map(path, 'raw')).map(({ start, length, zero, data }) => ({ start, length, zero, data }));
  assert.deepEqual(await places(serve.uri('ro')), await places(serve.file));
});

test('qemu-io writes, zeroes, discards and verifies through us', requires('qemu-io'), async () => {
  await using serve = await servingFile();
  await qemuIo(
    serve.uri(),
    [
      'write -P 0x11 4k 64k',
      'write -f -P 0x22 1m 4k',
      'write -z 20k 4k',
      'write -z -u 24k 4k',
      'discard 2m 64k',
      'flush',
      'read -P 0x11 4k 16k',
      'read -P 0 20k 8k',
      'read -P 0x11 28k 40k',
      'read -P 0x22 1m 4k',
      'aio_write -P 0x33 3m 1m',
      'aio_write -P 0x44 4m 1m',
      'aio_flush',
      'read -P 0x33 3m 1m',
      'read -P 0x44 4m 1m',
    ],
    'raw',
  );
  assert.equal(readFileSync(serve.file).readUInt32BE(4096), 0x11111111);
});

test('fio verifies random writes at depth 32', requires('fio'), async () => {
  await using serve = await servingFile();
  const args = ['--name=verify', '--ioengine=nbd', `--uri=${serve.uri()}`, '--rw=randwrite', '--size=16m'];
  const sizes = [
    '--bsrange=512-128k',
    '--iodepth=32',
    '--verify=crc32c',
    '--verify_fatal=1',
    '--randseed=7',
    '--verify_state_save=0',
  ];
  const report = await runOk('fio', [...args, ...sizes, '--output-format=json']);
  assert.match(report, /"error" : 0,/);
});

test(
  'libnbd accepts every reply, and sees the errors that the specification names',
  requires('nbdsh'),
  async () => {
    await using serve = await serving({
      exports: [{ name: '', device: checkedDevice(new MemoryDevice(4 * MiB)) }],
    });
    const { status, stderr, stdout } = await nbdsh(
      serve.uri(),
      'import errno',
      'h.set_strict_mode(0)',
      'def fails(code, call):',
      '  try:',
      '    call()',
      '  except nbd.Error as e:',
      '    assert e.errno == code, (e.errno, code)',
      '  else:',
      '    assert False, "no error"',
      'size = h.get_size()',
      'h.pwrite(b"abc" * 1000, 5)',
      'assert h.pread(3000, 5) == b"abc" * 1000',
      'h.zero(1000, 5, nbd.CMD_FLAG_NO_HOLE)',
      'h.trim(4096, 0, nbd.CMD_FLAG_FUA)',
      'h.cache(4096, 0)',
      'h.flush()',
      'fails("EINVAL", lambda: h.pread(2, size - 1))',
      'fails("ENOSPC", lambda: h.pwrite(b"ab", size - 1))',
      'fails("ENOSPC", lambda: h.zero(2, size - 1))',
      'fails("EINVAL", lambda: h.trim(2, size - 1))',
      'fails("EINVAL", lambda: h.cache(2, size - 1))',
      'fails("EINVAL", lambda: h.block_status(1, 0, lambda *a: 0))',
      'chunks = []',
      'h.pwrite(b"x" * 4096, 65536)',
      'h.pread_structured(131072, 0, lambda b, o, s, e: chunks.append((o, len(b), s)))',
      'assert sum(c[1] for c in chunks) == 131072, chunks',
      'h.pread_structured(131072, 0, lambda b, o, s, e: chunks.append(o), nbd.CMD_FLAG_DF)',
      'print("all right")',
    );
    assert.deepEqual({ status, stderr, stdout }, { status: 0, stderr: '', stdout: 'all right\n' });
  },
);

test("an error reaches libnbd's user as EPERM on a read-only export", requires('nbdsh'), async () => {
  await using serve = await servingFile();
  const { stderr } = await nbdsh(serve.uri('ro'), 'h.set_strict_mode(0)', 'h.pwrite(b"a", 0)');
  assert.match(stderr, /Operation not permitted/);
});

test('a TCP server serves libnbd and QEMU', requires('nbdinfo', 'qemu-img'), async () => {
  const disk = testDisk({ size: 4 * MiB });
  await using serve = await serving({
    exports: [{ name: '', device: disk.device }],
    address: { host: '127.0.0.1', port: 0 },
  });
  const { address } = serve.server;
  assert.ok('port' in address);
  const uri = `nbd://127.0.0.1:${address.port}`;
  assert.equal((await runOk('nbdinfo', ['--size', uri])).trim(), String(4 * MiB));
  await qemuIo(uri, ['write -P 0x77 0 1m', 'read -P 0x77 0 1m'], 'raw');
  assert.equal(disk.bytes[MiB - 1], 0x77);
});
