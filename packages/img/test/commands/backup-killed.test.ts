/** Backups and checkpoints that are killed before any of their steps: the next run makes it good, and nothing is lost. */
import assert from 'node:assert/strict';
import { cp, readdir, rm } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { qemuImg, qemuIo, requires, run, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

const program = fileURLToPath(new URL('../../src/bin.js', import.meta.url));
const dying = new URL('./dying.js', import.meta.url).href;
const tools = requires('qemu-img', 'qemu-io');

async function ok(...words: readonly string[]): Promise<string> {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  assert.equal(status, 0, `${words.join(' ')}: ${terminal.stderr()}`);
  return terminal.stdout();
}

/** Runs the command and kills it before its call number `at`; undefined: lets it live. */
function killed(at: number | undefined, ...words: readonly string[]) {
  const env: Record<string, string> = at === undefined ? {} : { DIE_AT: String(at) };
  return run(process.execPath, ['--import', dying, program, ...words], { env });
}

interface Listed {
  readonly image: string;
  readonly checkpoint: string;
  readonly state: string;
}

const listed = async (...disks: readonly string[]): Promise<readonly Listed[]> =>
  JSON.parse(await ok('checkpoint', 'list', '--output=json', ...disks)) as readonly Listed[];

test(
  'a backup that is killed before any of its steps is there or is not, and the next run has it',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const disk = folder.file('d.qcow2');
    await qemuImg.create(disk, '8M');
    await qemuIo(disk, ['write -P 1 0 2M']);
    await ok('checkpoint', 'create', disk);
    const before = folder.file('before');
    await ok('backup', disk, before);
    await qemuIo(disk, ['write -P 2 1M 2M', 'write -P 3 7M 64k']);
    await ok('checkpoint', 'create', disk);
    let deaths = 0;
    for (let at = 1; ; at++) {
      const backups = folder.file(`backups.${at}`);
      await cp(before, backups, { recursive: true, preserveTimestamps: true });
      const { status, stderr } = await killed(at, 'backup', disk, backups);
      const points = JSON.parse(
        await ok('backup', '--verify', '--output=json', backups),
      ) as readonly object[];
      assert.ok(
        points.length === 1 || points.length === 2,
        `${points.length} after a death at ${at}: ${stderr}`,
      );
      await ok('backup', disk, backups);
      await ok('restore', '-q', backups, folder.file('back'), '-O', 'qcow2');
      await qemuImg.compare(folder.file('back'), 'qcow2', disk, 'qcow2');
      const left = (await readdir(backups)).sort();
      assert.deepEqual(left, ['.lock', '0001.json', '0001.qcow2', '0002.json', '0002.qcow2'], `at ${at}`);
      assert.equal((await qemuImg.check(`${backups}/0002.qcow2`)).status, 0);
      await rm(folder.file('back'));
      if (status === 0) break;
      deaths++;
    }
    assert.ok(deaths > 15, `${deaths} deaths`);
  },
);

test(
  'a checkpoint of two disks that is killed before any of its steps is of both or of none',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const start = ['a', 'b'].map((name) => folder.file(`${name}.start`));
    for (const disk of start) await qemuImg.create(disk, '8M');
    await ok('checkpoint', 'create', ...start);
    for (const disk of start) await qemuIo(disk, ['write -P 2 1M 64k']);
    const from = await listed(...start);
    let deaths = 0;
    for (let at = 1; ; at++) {
      const disks = ['a', 'b'].map((name) => folder.file(`${name}.qcow2`));
      for (const [index, disk] of disks.entries()) await cp(start[index] as string, disk);
      const { status } = await killed(at, 'checkpoint', 'create', ...disks);
      for (const disk of disks) {
        const { status: state } = await qemuImg.run('check', disk);
        assert.ok(state === 0 || state === 3, 'sound, or with leaks only');
        const states = (await listed(disk)).map((each) => each.state);
        assert.ok(!states.includes('inconsistent'), `${states} after a death at ${at}`);
      }
      await ok('checkpoint', 'create', '-q', ...disks);
      const found = await listed(...disks);
      assert.deepEqual(new Set(found.map(({ state }) => state)), new Set(['frozen', 'recording']));
      const counts = disks.map((disk) => found.filter(({ image }) => image === disk).length);
      assert.equal(new Set(counts).size, 1, `as many checkpoints of both: ${counts}`);
      for (const { checkpoint } of from) assert.ok(found.some((each) => each.checkpoint === checkpoint));
      if (status === 0) break;
      deaths++;
    }
    assert.ok(deaths > 5, `${deaths} deaths`);
  },
);
