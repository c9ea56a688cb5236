/** The structure of a disk changes under a guest that never stops: what others see of its files meanwhile, and what is left. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectQmp, type QmpClient } from '@strata/qmp';
import {
  qemuHold,
  qemuImg,
  qemuIo,
  requires,
  runOk,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { img, imgServe } from '../img.ts';
import { assertOneMoment, movingGuest } from './moving-guest.ts';

const tools = requires('qemu-img', 'qemu-io', 'fio', 'nbdcopy');
const size = 24 << 20;

/** A disk over a base, as files of QEMU's. */
async function makeDisk({ file }: TemporaryFolder): Promise<string> {
  const [base, disk] = [file('base.qcow2'), file('disk.qcow2')];
  await qemuImg.create(base, size);
  await qemuIo(base, ['write -P 1 1M 20M']);
  await qemuImg.create(disk, size, { backing: { name: base, format: 'qcow2' } });
  return disk;
}

const status = (state: string) => (data: Readonly<Record<string, unknown>>) => data['status'] === state;
const ended = (qmp: QmpClient) => qmp.event('JOB_STATUS_CHANGE', status('null'));

/** What QEMU says to a writer, and to a reader; undefined: it may. */
async function refusals(path: string): Promise<readonly (string | undefined)[]> {
  const found: (string | undefined)[] = [];
  for (const args of [[], ['-r']]) {
    await using hold = await qemuHold(path, 'qcow2', args);
    found.push(hold.refusal);
  }
  return found;
}

const readable = ['Failed to get "write" lock', undefined];
const taken = ['Failed to get "write" lock', 'Failed to get shared "write" lock'];

test(
  'snapshots and commits under a guest that never stops: each old top is of one moment, and nothing is lost',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const disk = await makeDisk(folder);
    const [socket, control, raw] = ['nbd', 'control', 'raw'].map((name) => folder.file(name)) as [
      string,
      string,
      string,
    ];
    const uri = `nbd+unix:///disk?socket=${socket}`;
    {
      await using server = await imgServe(socket, ['--control', control, '-f', 'qcow2', `disk=${disk}`]);
      await using qmp = await connectQmp({ path: control });
      {
        await using guest = await movingGuest(uri, size);
        await guest.goOn(100);
        let top = 'disk';
        for (const name of ['one', 'two', 'three']) {
          const from = guest.moment();
          await qmp.execute('blockdev-snapshot-sync', {
            'node-name': top,
            'snapshot-file': folder.file(`${name}.qcow2`),
            'snapshot-node-name': name,
          });
          const to = guest.moment();
          const old = folder.file(`${top}.qcow2`);
          await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', old, raw);
          await assertOneMoment(raw, from, to);
          assert.equal((await qemuImg.check(old)).status, 0);
          assert.deepEqual(await refusals(old), readable, old);
          assert.deepEqual(await refusals(folder.file(`${name}.qcow2`)), taken, name);
          top = name;
          await guest.goOn(50);
        }
        await qmp.execute('block-commit', {
          'job-id': 'c',
          device: 'three',
          'top-node': 'two',
          'base-node': 'disk',
        });
        await ended(qmp);
        assert.deepEqual(await refusals(disk), readable, 'the base, after a commit into it');
        assert.deepEqual(
          await refusals(folder.file('one.qcow2')),
          [undefined, undefined],
          'an image that dropped out',
        );
        await guest.goOn(50);

        await qmp.execute('blockdev-add', {
          driver: 'qcow2',
          'node-name': 'fleece',
          file: { driver: 'file', filename: await overlay(folder, 'three') },
          backing: 'three',
        });
        const from = guest.moment();
        await qmp.execute('blockdev-backup', {
          'job-id': 'f',
          device: 'three',
          target: 'fleece',
          sync: 'none',
        });
        const to = guest.moment();
        await qmp.execute('block-export-add', { type: 'nbd', id: 'fleece', 'node-name': 'fleece' });
        for (let count = 0; count < 2; count++) {
          await guest.goOn(100);
          await runOk('nbdcopy', [`nbd+unix:///fleece?socket=${socket}`, raw]);
          await assertOneMoment(raw, from, to);
        }
        await qmp.execute('block-export-del', { id: 'fleece', mode: 'hard' });
        await qmp.execute('job-cancel', { id: 'f' });
        await ended(qmp);
        await qmp.execute('blockdev-del', { 'node-name': 'fleece' });

        await qmp.execute('block-commit', { 'job-id': 'c', device: 'three', base: disk });
        await qmp.event('BLOCK_JOB_READY');
        assert.deepEqual(await refusals(disk), taken, 'the base, while it is committed into');
        await guest.goOn(100);
        await qmp.execute('job-complete', { id: 'c' });
        await ended(qmp);
        await guest.goOn(50);
      }
      const exports = await qmp.execute<readonly Record<string, unknown>[]>('query-block-exports');
      assert.deepEqual(
        exports.map((each) => [each['id'], each['node-name']]),
        [['disk', 'disk']],
      );
      await runOk('nbdcopy', [uri, raw]);
      assert.equal(await server.stop(), 0);
    }
    await qemuImg.compare(disk, 'qcow2', raw, 'raw');
    for (const name of ['base', 'disk'])
      assert.equal((await qemuImg.check(folder.file(`${name}.qcow2`))).status, 0);
  },
);

/** An empty image over another one. */
async function overlay({ file }: TemporaryFolder, under: string): Promise<string> {
  const path = file('fleece.qcow2');
  await qemuImg.ok(
    'create',
    '-q',
    '-f',
    'qcow2',
    '-u',
    '-b',
    file(`${under}.qcow2`),
    '-F',
    'qcow2',
    path,
    String(size),
  );
  return path;
}

test(
  'a server that is told to stop while jobs go on cancels them, and no bitmap is cleared',
  tools,
  async () => {
    for (const how of ['quit', 'signal'] as const) {
      await using folder = await temporaryFolder();
      const disk = await makeDisk(folder);
      const target = folder.file('target.qcow2');
      await qemuImg.create(target, size);
      await qemuImg.ok('bitmap', '--add', disk, 'b');
      const [socket, control] = [folder.file('nbd'), folder.file('control')];
      await using server = await imgServe(socket, ['--control', control, '-f', 'qcow2', `disk=${disk}`]);
      await using qmp = await connectQmp({ path: control });
      await qemuIo(`nbd+unix:///disk?socket=${socket}`, ['write -P 2 1M 2M', 'flush'], 'raw');
      await qmp.execute('blockdev-add', {
        driver: 'qcow2',
        'node-name': 'target',
        file: { driver: 'file', filename: target },
      });
      const job = {
        'job-id': 'j',
        device: 'disk',
        target: 'target',
        sync: 'incremental',
        bitmap: 'b',
        speed: 1,
      };
      await qmp.execute('blockdev-backup', job);
      await qemuIo(`nbd+unix:///disk?socket=${socket}`, ['write -P 3 8M 64k', 'flush'], 'raw');
      if (how === 'quit') {
        await qmp.execute('quit');
        await qmp.event('BLOCK_JOB_CANCELLED');
      }
      assert.equal(await server.stop(), 0, server.stderr());
      const listed = JSON.parse(await img.ok('bitmap', '--list', '--output=json', disk)) as {
        count: number;
      }[];
      assert.deepEqual(
        listed.map(({ count }) => count),
        [(2 << 20) + 65_536],
        how,
      );
      for (const path of [disk, target]) assert.equal((await qemuImg.check(path)).status, 0);
    }
  },
);
