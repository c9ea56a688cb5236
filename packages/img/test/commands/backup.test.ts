/** `backup`, `restore` and `checkpoint` together: the cycle of a cron job, of images that nobody has open. */
import assert from 'node:assert/strict';
import { readdir, rm, stat } from 'node:fs/promises';
import { test } from 'node:test';
import { qemuImg, qemuIo, randomFrom, requires, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

async function ok(...words: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await img(...words);
  assert.deepEqual([status, stderr], [0, ''], words.join(' '));
  return stdout;
}

async function json<T>(...words: readonly string[]): Promise<T> {
  return JSON.parse(await ok(...words, '--output=json')) as T;
}

interface Report {
  readonly kind: string;
  readonly layer: string;
  readonly 'changed-bytes': number;
  readonly 'read-bytes': number;
  readonly 'overhead-bytes': number;
  readonly verified: boolean;
}

interface Listed {
  readonly image: string;
  readonly checkpoint: string;
  readonly state: string;
  readonly 'dirty-bytes': number;
}

const tools = requires('qemu-img', 'qemu-io');
const MiB = 1 << 20;

test(
  'two disks, a full backup and three incremental ones: each point of each restores as it was',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const disks = ['a', 'b'].map((name) => folder.file(`${name}.qcow2`));
    const random = randomFrom(11);
    for (const [index, disk] of disks.entries()) {
      const clusters = index === 0 ? [] : ['-o', 'cluster_size=4k'];
      await qemuImg.ok('create', '-q', '-f', 'qcow2', ...clusters, disk, '32M');
      await qemuIo(disk, ['write -P 9 3M 2M']);
    }
    const target = (disk: string) => disk.replace('.qcow2', '.backups');
    for (let round = 0; round < 4; round++) {
      if (round > 0) {
        for (const disk of disks) {
          const at = () => random.upTo(30 * MiB);
          const writes = [1, 2, 3].map(
            (byte) => `write -P ${byte + 4 * round} ${at()} ${1 + random.upTo(90_000)}`,
          );
          await qemuIo(disk, [...writes, `write -z ${at()} 70000`]);
        }
      }
      const made = await json<readonly { readonly checkpoint: string }[]>('checkpoint', 'create', ...disks);
      assert.equal(new Set(made.map(({ checkpoint }) => checkpoint.split('.')[2])).size, 1);
      const listed = await json<readonly Listed[]>('checkpoint', 'list', ...disks);
      for (const disk of disks) {
        const report = await json<Report>('backup', '--verify', disk, target(disk));
        const frozen = listed.find(({ image, state }) => image === disk && state === 'frozen');
        assert.equal(report.kind, round === 0 ? 'full' : 'incremental');
        assert.equal(report['changed-bytes'], frozen?.['dirty-bytes'] ?? 32 * MiB);
        assert.deepEqual([report['overhead-bytes'], report.verified], [0, true]);
        assert.ok(report['read-bytes'] <= report['changed-bytes']);
        await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', disk, `${disk}.${round + 1}`);
      }
      await ok('checkpoint', 'done', ...disks);
      const kept = await json<readonly Listed[]>('checkpoint', 'list', ...disks);
      assert.deepEqual(
        kept.map(({ state }) => state),
        ['recording', 'recording'],
      );
    }
    for (const disk of disks) {
      assert.equal((await qemuImg.check(disk)).status, 0);
      for (let point = 1; point <= 4; point++) {
        const back = folder.file('back');
        await ok('restore', '-O', 'qcow2', '--point', String(point), target(disk), `${back}.${point}`);
        await qemuImg.compare(`${back}.${point}`, 'qcow2', `${disk}.${point}`, 'raw');
        await rm(`${back}.${point}`);
      }
      assert.match(
        await ok('backup', '--verify', target(disk)),
        /^NUMBER +KIND.*\n1 +full.*\n2 +on 1.*\n3 +on 2/,
      );
    }
  },
);

test('a restored disk takes no more room than what it holds', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = folder.file('d.qcow2');
  await qemuImg.create(disk, '1G');
  await qemuIo(disk, ['write -P 1 500M 1M']);
  const { stderr } = await img('backup', '-q', disk, folder.file('backups'));
  assert.match(stderr, /is at no checkpoint/);
  await ok('restore', folder.file('backups'), folder.file('out.raw'));
  const { size, blocks } = await stat(folder.file('out.raw'));
  assert.equal(size, 1 << 30);
  assert.ok(blocks * 512 <= 2 * MiB, `${blocks * 512} bytes`);
});

test('a backup is refused while the disk is behind its checkpoint, and says what to do', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = folder.file('d.qcow2');
  await qemuImg.create(disk, '4M');
  const backups = folder.file('backups');
  await ok('checkpoint', 'create', disk);
  await ok('backup', disk, backups);
  await qemuIo(disk, ['write -P 1 1M 4k']);
  const behind = await img('backup', disk, backups);
  assert.deepEqual([behind.status, behind.stdout], [1, '']);
  assert.match(
    behind.stderr,
    /^img: No backup of '.*' was taken: the disk has changed since checkpoint 'backup\.1\..*': make a new/,
  );
  // The backup that nobody took costs nothing: the next one has it.
  await ok('checkpoint', 'create', disk);
  await qemuIo(disk, ['write -P 2 2M 4k']);
  await ok('checkpoint', 'create', disk);
  const report = await json<Report>('backup', disk, backups);
  assert.deepEqual([report.kind, report['changed-bytes']], ['incremental', 131_072]);
  assert.match(await ok('backup', disk, backups), /^Nothing to do: 0002\.qcow2/);
  // The bitmaps are gone: only a full backup is right.
  await ok('checkpoint', 'drop', disk);
  await ok('checkpoint', 'create', disk);
  const broken = await img('backup', disk, backups);
  assert.match(broken.stderr, /is not a checkpoint of the disk.*\n'img backup --full' begins a new chain\n$/);
  assert.equal((await json<Report>('backup', '--full', disk, backups)).layer, '0003.qcow2');
});

test('an inconsistent bitmap is refused with its name, and a full backup gets over it', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = folder.file('d.qcow2');
  await qemuImg.create(disk, '4M');
  const backups = folder.file('backups');
  await ok('checkpoint', 'create', disk);
  await ok('backup', disk, backups);
  // What a machine that loses its power leaves.
  await qemuIo(disk, ['write -P 1 1M 4k', 'sigraise 9']).catch(() => undefined);
  const [listed] = await json<readonly Listed[]>('checkpoint', 'list', disk);
  assert.equal(listed?.state, 'inconsistent');
  assert.match((await img('backup', disk, backups)).stderr, /was not saved properly: make a new checkpoint/);
  await ok('checkpoint', 'create', disk);
  const refused = await img('backup', disk, backups);
  assert.match(
    refused.stderr,
    /Bitmap 'backup\.1\..*' is inconsistent.*\n'img backup --full' begins a new chain\n$/,
  );
  await ok('backup', '--full', disk, backups);
  await ok('checkpoint', 'done', disk);
  assert.equal((await json<readonly Listed[]>('checkpoint', 'list', disk)).length, 1);
  assert.equal((await readdir(backups)).filter((name) => name.endsWith('.json')).length, 2);
});

test(
  'a raw disk keeps its checkpoints beside it, and a write behind our back makes a full backup needed',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const disk = folder.file('d.raw');
    const source = folder.file('source');
    await qemuImg.create(disk, '4M', { format: 'raw' });
    const backups = folder.file('backups');
    await ok('checkpoint', 'create', '-f', 'raw', disk);
    await ok('backup', '-f', 'raw', disk, backups);
    await qemuImg.create(source, '1M', { format: 'raw' });
    await qemuIo(source, ['write -P 3 64k 64k'], 'raw');
    await ok('convert', '-n', '-f', 'raw', '-O', 'raw', source, disk);
    await ok('checkpoint', 'create', '-f', 'raw', disk);
    const report = await json<Report>('backup', '-f', 'raw', disk, backups);
    assert.deepEqual([report.kind, report['changed-bytes']], ['incremental', MiB]);
    await ok('checkpoint', 'done', '-f', 'raw', disk);
    await ok('restore', backups, folder.file('back'));
    await qemuImg.compare(folder.file('back'), 'raw', disk, 'raw');
    await qemuIo(disk, ['write -P 4 2M 64k'], 'raw');
    assert.match((await img('backup', '-f', 'raw', disk, backups)).stderr, /was not saved properly/);
  },
);
