/** `backup` of NBD exports: by bitmaps that somebody else named, over connections that break, onto disks that are full. */
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  cuttingProxy,
  qemuImg,
  qemuIo,
  qemuNbd,
  requires,
  run,
  type TemporaryFolder,
  temporaryFolder,
  tlsFolder,
} from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';
import { serveImg } from '../run-img.ts';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

async function ok(...words: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await img(...words);
  assert.equal(status, 0, `${words.join(' ')}: ${stderr}`);
  return stdout;
}

interface Report {
  readonly kind: string;
  readonly 'changed-bytes': number;
  readonly 'read-bytes': number;
  readonly 'resumed-at'?: number;
}

const taken = async (...words: readonly string[]): Promise<Report> =>
  JSON.parse(await ok('backup', '--output=json', ...words)) as Report;

const tools = requires('qemu-img', 'qemu-io', 'qemu-nbd');
const MiB = 1 << 20;

/** A disk of 64 MiB, half of it written. */
async function halfFull(folder: TemporaryFolder): Promise<string> {
  const disk = folder.file('disk.qcow2');
  await qemuImg.create(disk, '64M');
  await qemuIo(disk, ['write -P 7 16M 32M']);
  return disk;
}

const uri = (socket: string): string => `nbd+unix:///?socket=${socket}`;

/** What is left in a folder of backups. */
const visible = async (folder: string): Promise<readonly string[]> =>
  (await readdir(folder)).filter((name) => !name.startsWith('.')).sort();

async function assertRestores(folder: TemporaryFolder, backups: string, disk: string): Promise<void> {
  await ok('restore', '-q', '-O', 'qcow2', backups, folder.file('back'));
  await qemuImg.compare(folder.file('back'), 'qcow2', disk, 'qcow2');
}

test(
  "qemu-nbd's export and its bitmap of 512 bytes: what changed is read, to the sector",
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const disk = await halfFull(folder);
    const backups = folder.file('backups');
    await qemuImg.ok('bitmap', '--add', '-g', '512', disk, 'since-monday');
    {
      await using _ = await qemuNbd(disk, folder.file('s'), ['-f', 'qcow2', '-r']);
      const full = await taken('--frozen', '--checkpoint', 'monday', uri(folder.file('s')), backups);
      assert.deepEqual([full.kind, full['changed-bytes'], full['read-bytes']], ['full', 64 * MiB, 32 * MiB]);
    }
    await qemuIo(disk, ['write -P 8 1M 512', 'write -z 17M 512', 'write -P 9 40M 3k']);
    await qemuImg.ok('bitmap', '--disable', disk, 'since-monday');
    await using _ = await qemuNbd(disk, folder.file('s'), ['-f', 'qcow2', '-r', '-B', 'since-monday']);
    const words = ['--frozen', '--checkpoint', 'tuesday', uri(folder.file('s')), backups];
    const wrong = await img('backup', '--bitmap', 'since-monday', ...words);
    assert.equal(wrong.status, 1);
    assert.match(
      wrong.stderr,
      /since checkpoint 'since-monday', and the newest backup was taken at 'monday'/,
    );
    const missing = await img('backup', '--bitmap', 'since-sunday', ...words);
    assert.match(missing.stderr, /the source has no bitmap 'since-sunday'/);
    const report = await taken('--verify', '--bitmap', 'since-monday', '--since', 'monday', ...words);
    assert.deepEqual([report.kind, report['changed-bytes']], ['incremental', 4096]);
    assert.equal(report['read-bytes'], 4096, 'a sector of zeros in a cluster of data is read');
    await assertRestores(folder, backups, disk);
  },
);

test('a backup over a connection that breaks again and again is whole', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = await halfFull(folder);
  await using _ = await qemuNbd(disk, folder.file('s'), ['-f', 'qcow2', '-r']);
  const cut = (connection: number) =>
    connection > 0 && connection < 9
      ? ({ direction: 'down', after: 3 * MiB + connection * 1001 } as const)
      : undefined;
  await using proxy = await cuttingProxy(folder.file('proxied'), folder.file('s'), cut);
  const backups = folder.file('backups');
  await taken('--frozen', '--verify', '--checkpoint', 'c', uri(folder.file('proxied')), backups);
  assert.ok(proxy.connections > 4, `${proxy.connections} connections`);
  await assertRestores(folder, backups, disk);
});

test(
  'a server that is gone for good ends the backup, and the next run goes on where it was durable',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const disk = await halfFull(folder);
    // More than the stretch after which a backup makes durable what it has.
    await qemuImg.ok('resize', '-q', disk, '256M');
    await qemuIo(disk, ['write -P 3 64M 160M']);
    await using _ = await qemuNbd(disk, folder.file('s'), ['-f', 'qcow2', '-r']);

    const backups = folder.file('backups');
    const words = (socket: string) => ['--checkpoint', 'c', uri(socket), backups];
    {
      await using proxy = await cuttingProxy(folder.file('proxied'), folder.file('s'));
      const taking = img('backup', '--reconnect-delay', '0', '--frozen', ...words(folder.file('proxied')));
      while (proxy.bytes.down < 120 * MiB) await new Promise((resolve) => setImmediate(resolve));
      proxy.refusing = true;
      proxy.cutAll();
      const lost = await taking;
      assert.deepEqual([lost.status, lost.stdout], [1, '']);
      assert.match(lost.stderr, /^img: No backup of .* was taken: .*closed/);
    }
    assert.deepEqual(await visible(backups), []);
    await using proxy = await cuttingProxy(folder.file('proxied'), folder.file('s'));
    const vouchless = await img('backup', '--resume', ...words(folder.file('proxied')));
    assert.match(vouchless.stderr, /cannot be gone on with: nothing vouches for the source/);
    const report = await taken('--frozen', '--resume', '--verify', ...words(folder.file('proxied')));
    assert.ok((report['resumed-at'] ?? 0) > 0 && report['read-bytes'] < 192 * MiB, JSON.stringify(report));
    assert.ok(proxy.connections > 0);
    assert.deepEqual(await visible(backups), ['0001.json', '0001.qcow2']);
    await assertRestores(folder, backups, disk);
    assert.equal((await qemuImg.check(`${backups}/0001.qcow2`)).status, 0);
  },
);

test(
  'a full disk ends the backup with its reason, and what was backed up before is left',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const disk = await halfFull(folder);
    await ok('checkpoint', 'create', disk);
    const backups = folder.file('backups');
    await ok('backup', disk, backups);
    await qemuIo(disk, ['write -P 9 0 16M']);
    await ok('checkpoint', 'create', disk);
    const program = fileURLToPath(new URL('../../src/bin.js', import.meta.url));
    // Files of at most 4 MiB: what a file system says that has no room for more.
    const limited = [
      '-c',
      'ulimit -f 4096; exec "$@"',
      '-',
      process.execPath,
      program,
      'backup',
      disk,
      backups,
    ];
    const full = await run('bash', limited);
    assert.equal(full.status, 1, full.stdout);
    assert.match(full.stderr, /^img: No backup of .* was taken: (File too large|No space left on device)\n$/);
    assert.deepEqual(await visible(backups), ['0001.json', '0001.qcow2']);
    await ok('backup', '--verify', backups);
    await ok('backup', disk, backups);
    await assertRestores(folder, backups, disk);
  },
);

test('an export that is gone, and a server that is not there, are told plainly', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = await halfFull(folder);
  await using _ = await qemuNbd(disk, folder.file('s'), ['-f', 'qcow2', '-r']);
  const gone = await img('backup', `nbd+unix:///other?socket=${folder.file('s')}`, folder.file('backups'));
  assert.equal(gone.status, 1);
  assert.match(gone.stderr, /^img: Could not open '.*': .*export 'other' not present/);
  const nobody = await img('backup', uri(folder.file('nobody')), folder.file('backups'));
  assert.match(
    nobody.stderr,
    /^img: Could not open '.*': Failed to connect to .*: No such file or directory\n$/,
  );
  const unsure = await img(
    'backup',
    '-q',
    '--checkpoint',
    'c',
    uri(folder.file('s')),
    folder.file('backups'),
  );
  assert.deepEqual([unsure.status, unsure.stdout], [0, '']);
  assert.match(unsure.stderr, /^img: note: nothing vouches for '.*' standing still/);
});

test('an export that ends inside a sector is backed up with its last bytes', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = folder.file('odd');
  await writeFile(disk, Buffer.alloc(70_000, 7));
  const backups = folder.file('backups');
  await using server = await serveImg('-f', 'raw', '-k', folder.file('s'), disk);
  assert.equal(server.uris.length, 1);
  await taken('--frozen', '--verify', '-c', '--checkpoint', 'c', uri(folder.file('s')), backups);
  await ok('restore', backups, folder.file('back'));
  const expected = Buffer.concat([Buffer.alloc(70_000, 7), Buffer.alloc(144)]);
  assert.deepEqual(await readFile(folder.file('back')), expected);
});

test(
  'a backup over TLS, full and by a bitmap that the export shows',
  requires('openssl', 'qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const [disk, dir, backups] = [await halfFull(folder), folder.file('pki'), folder.file('backups')];
    await tlsFolder(dir);
    const tls = ['--object', `tls-creds-x509,id=t,endpoint=server,dir=${dir}`, '--tls-creds', 't'];
    const secure = `nbds+unix:///?socket=${folder.file('s')}&tls-certificates=${dir}&tls-hostname=localhost`;
    await qemuImg.ok('bitmap', '--add', disk, 'c1');
    {
      await using _ = await serveImg('-f', 'qcow2', '-r', '-k', folder.file('s'), ...tls, disk);
      await taken('--frozen', '--checkpoint', 'c1', secure, backups);
    }
    await qemuIo(disk, ['write -P 9 40M 100k']);
    await qemuImg.ok('bitmap', '--disable', disk, 'c1');
    await using _ = await serveImg('-f', 'qcow2', '-r', '-k', folder.file('s'), '-B', 'c1', ...tls, disk);
    const report = await taken('--frozen', '--bitmap', 'c1', '--checkpoint', 'c2', secure, backups);
    assert.deepEqual([report.kind, report['read-bytes']], ['incremental', 131_072]);
    await assertRestores(folder, backups, disk);
  },
);

test('a backup goes back into an export, over what was there', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = await halfFull(folder);
  await ok('checkpoint', 'create', disk);
  await ok('backup', disk, folder.file('backups'));
  const target = folder.file('target.qcow2');
  await qemuImg.create(target, '64M');
  await qemuIo(target, ['write -P 1 0 64M']);
  {
    await using _ = await qemuNbd(target, folder.file('s'), ['-f', 'qcow2']);
    assert.match(
      await ok('restore', folder.file('backups'), uri(folder.file('s'))),
      /^Restored backup 1, checkpoint/,
    );
  }
  await qemuImg.compare(target, 'qcow2', disk, 'qcow2');
});
