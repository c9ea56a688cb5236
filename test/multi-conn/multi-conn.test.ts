import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { nbdinfo, qemuImg, requires, run, runOk, temporaryFolder } from '@strata/testkit';
import { img, imgServe } from '../img.ts';
import { fight, firstViolation } from './hot-sectors.ts';
import { type Fault, serverPair } from './server-pair.ts';

/** `MULTI_CONN_OPERATIONS` of each connection, `MULTI_CONN_SEED` repeats a run. */
const operations = Number(process.env['MULTI_CONN_OPERATIONS'] ?? 1500);
const seed = Number(process.env['MULTI_CONN_SEED'] ?? Date.now() % 2 ** 31);
const connections = 8;

const images: Readonly<Record<string, (path: string) => Promise<readonly string[]>>> = {
  'a raw file': async (path) => {
    writeFileSync(path, '');
    truncateSync(path, 1 << 20);
    return ['-f', 'raw', path];
  },
  'a qcow2 image with a backing file': async (path) => {
    await img.ok('create', '-q', '-f', 'qcow2', `${path}.base`, '1M');
    await img.ok(
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      'cluster_size=4k',
      '-b',
      `${path}.base`,
      '-F',
      'qcow2',
      path,
    );
    return [path];
  },
};

for (const [claim, make] of Object.entries(images)) {
  test(`8 connections see each sector of ${claim} as if it did one thing at a time (seed ${seed})`, async () => {
    await using folder = await temporaryFolder();
    await using server = await imgServe(folder.file('s'), await make(folder.file('disk')));
    const uris = Array.from({ length: connections }, () => server.uri);
    const histories = await fight({ uris, seed, operations, depth: 4 });
    assert.ok(histories.flat().length > 2 * connections * operations);
    assert.equal(firstViolation(histories), undefined);
  });
}

for (const fault of ['stale reads', 'late writes', 'no fault'] as readonly Fault[]) {
  test(`two servers over one disk, with ${fault}: ${fault === 'no fault' ? 'passes' : 'caught'}`, async () => {
    await using folder = await temporaryFolder();
    await using pair = await serverPair(folder, fault);
    const uris = Array.from({ length: connections }, (_, index) => pair.uris[index % 2] as string);
    const histories = await fight({ uris, seed, operations: 400, depth: 4 });
    assert.equal(firstViolation(histories) === undefined, fault === 'no fault');
  });
}

const threeClients = [
  'def client():',
  '  c = nbd.NBD()',
  '  c.connect_uri(uri)',
  '  return c',
  'a, b, c = client(), client(), client()',
  'assert a.can_multi_conn()',
  'assert [x.pread(1024, 0) for x in (a, b, c)] == [bytes(1024)] * 3',
  'a.pwrite(b"1" * 512, 0)',
  'a.flush()',
  'b.pwrite(b"2" * 512, 512, nbd.CMD_FLAG_FUA)',
  'assert [x.pread(1024, 0) for x in (a, b, c)] == [b"1" * 512 + b"2" * 512] * 3',
  // A flush on one connection is for what was answered on all of them.
  'b.pwrite(b"3" * 512, 0)',
  'c.flush()',
  'a.zero(512, 512, nbd.CMD_FLAG_FUA)',
  'b.trim(4096, 4096, nbd.CMD_FLAG_FUA)',
  'assert [x.pread(1024, 0) for x in (a, b, c)] == [b"3" * 512 + bytes(512)] * 3',
  'print("alike")',
];

test(
  'three clients of libnbd see what one of them flushed or wrote with FUA',
  requires('nbdsh'),
  async () => {
    await using folder = await temporaryFolder();
    const image = folder.file('disk.qcow2');
    await img.ok('create', '-q', '-f', 'qcow2', image, '1M');
    await using server = await imgServe(folder.file('s'), [image]);
    const script = [`uri = "${server.uri}"`, ...threeClients].join('\n');
    const { stdout, stderr } = await run('nbdsh', ['-c', script], { env: { PATH: '/usr/bin:/bin' } });
    assert.deepEqual([stdout, stderr], ['alike\n', '']);
  },
);

for (const [claim, words, expected] of [
  ['a writable export', [], true],
  ['a read-only export', ['-r'], true],
  ['an export without a limit', ['-e', '0'], true],
  ['an export for one client', ['-e', '1'], false],
  ['a read-only export for one client', ['-r', '-e', '1'], false],
] as const) {
  test(
    `${claim} ${expected ? 'says' : 'does not say'} MULTI_CONN, as qemu-nbd's`,
    requires('nbdinfo'),
    async () => {
      await using folder = await temporaryFolder();
      const image = folder.file('disk.qcow2');
      await img.ok('create', '-q', '-f', 'qcow2', image, '1M');
      await using server = await imgServe(folder.file('s'), [...words, image]);
      const { exports } = (await nbdinfo.json(server.uri)) as { exports: { can_multi_conn: boolean }[] };
      assert.equal(exports[0]?.can_multi_conn, expected);
    },
  );
}

test('fio finds what four connections wrote to one image', requires('fio', 'qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('image.qcow2');
  await qemuImg.create(image, '64M', { options: { cluster_size: 65_536 } });
  {
    await using server = await imgServe(folder.file('s'), ['-f', 'qcow2', image]);
    // The parts are no multiples of a cluster, so that neighbours share some.
    const parts = ['--numjobs=4', '--size=10007k', '--offset_increment=10007k'];
    const load = ['--rw=randwrite', '--bsrange=512-64k', '--iodepth=8', '--fsync=64', '--randseed=7'];
    const verify = ['--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0'];
    const args = ['--name=verify', '--ioengine=nbd', `--uri=${server.uri}`, ...parts, ...load, ...verify];
    await runOk('fio', args, { cwd: folder.path });
    assert.equal(await server.stop(), 0);
  }
  assert.equal((await qemuImg.check(image)).status, 0);
});
