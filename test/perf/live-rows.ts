/** What is done to a disk in use, steered by QMP: a backup, a commit, and a guest's writes while its old bytes are kept. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { connectQmp, type QmpClient } from '@strata/qmp';
import { qcow2Blockdev, qemuImg, qemuIo, serve, storageDaemon, type TemporaryFolder } from '@strata/testkit';
import { medians } from './measure.ts';
import type { Row } from './row.ts';
import { fio } from './server-rows.ts';
import { img } from './servers.ts';

/** A server with one disk that is steered. */
interface Steered extends AsyncDisposable {
  readonly qmp: QmpClient;
  readonly uri: string;
}

type Start = (folder: TemporaryFolder, image: string, name: string) => Promise<Steered>;

const starts: Readonly<Record<'strata' | 'daemon', Start>> = {
  strata: async (folder, image, name) => {
    const [socket, control] = [folder.file(`${name}.nbd`), folder.file(`${name}.qmp`)];
    const args = [img, 'serve', '-k', socket, '--control', control, '-f', 'qcow2', `disk=${image}`];
    const server = await serve(process.execPath, args, () => existsSync(socket) && existsSync(control));
    const qmp = await connectQmp({ path: control });
    const dispose = async (): Promise<void> => {
      await qmp[Symbol.asyncDispose]();
      await server.stop();
    };
    return { qmp, uri: `nbd+unix:///disk?socket=${socket}`, [Symbol.asyncDispose]: dispose };
  },
  daemon: async (folder, image, name) => {
    const options = {
      blockdevs: [qcow2Blockdev('disk', image)],
      exports: [{ id: 'disk', 'node-name': 'disk', name: 'disk', writable: true }],
    };
    const server = await storageDaemon(folder.path, options, name);
    return {
      qmp: server.qmp,
      uri: server.uri('disk'),
      [Symbol.asyncDispose]: async () => void (await server.stop()),
    };
  },
};

/** Work on a disk that a server has open; the figure is seconds, or operations a second. */
type Work = (steered: Steered, file: (name: string) => string) => Promise<number>;

/** @param disk of 1 GiB, raw */
export async function liveRows(
  folder: TemporaryFolder,
  disk: string,
  rounds: number,
): Promise<readonly Row[]> {
  const image = folder.file('live.qcow2');
  await qemuImg.ok('convert', '-f', 'raw', '-O', 'qcow2', disk, image);
  const rows: Row[] = [];
  for (const [work, better, bound, run] of [
    ['backup of a disk in use, 1 GiB', 'less', 2.5, backup],
    ['commit under a disk in use, 256 MiB', 'less', 2.5, commit],
    ['4k random writes, the disk as it was kept', 'more', 0.4, keptWrites],
  ] as const) {
    const contestants = (['strata', 'daemon'] as const).map((name) => ({
      name,
      files: [image],
      run: () => measured(folder, image, name, run),
    }));
    const [ours, theirs] = (await medians(contestants, rounds)) as [number, number];
    rows.push({ work, peer: 'qemu daemon', ratio: ours / theirs, better, bound });
  }
  return rows;
}

/** Runs `work` on an overlay of its own, which is removed afterwards. */
async function measured(
  folder: TemporaryFolder,
  image: string,
  name: keyof typeof starts,
  work: Work,
): Promise<number> {
  const made: string[] = [];
  const file = (what: string): string => {
    const path = folder.file(`${name}-${what}.qcow2`);
    made.push(path);
    return path;
  };
  const top = file('top');
  const middle = file('middle');
  await overlay(middle, image);
  await overlay(top, middle);
  if (work === commit) await qemuIo(middle, ['write -P 1 0 256M']);
  try {
    // Without an overlay, whose own copying up would be measured with it.
    await using steered = await starts[name](folder, work === keptWrites ? image : top, name);
    return await work(steered, file);
  } finally {
    for (const path of made) await rm(path, { force: true });
  }
}

const overlay = (path: string, name: string): Promise<string> =>
  qemuImg.create(path, undefined, { backing: { name, format: 'qcow2' } });

async function backup({ qmp }: Steered, file: (name: string) => string): Promise<number> {
  const target = file('target');
  await qemuImg.create(target, 2 ** 30);
  await qmp.execute('blockdev-add', qcow2Blockdev('target', target));
  return untilGone(qmp, 'blockdev-backup', { device: 'disk', target: 'target', sync: 'full' });
}

async function commit({ qmp }: Steered, file: (name: string) => string): Promise<number> {
  return untilGone(qmp, 'block-commit', { device: 'disk', top: file('middle') });
}

async function keptWrites({ qmp, uri }: Steered, file: (name: string) => string): Promise<number> {
  const fleece = file('fleece');
  await qemuImg.ok('create', '-q', '-f', 'qcow2', '-u', '-b', 'disk', '-F', 'qcow2', fleece, `${2 ** 30}`);
  await qmp.execute('blockdev-add', qcow2Blockdev('fleece', fleece, { backing: 'disk' }));
  await qmp.execute('blockdev-backup', { 'job-id': 'j', device: 'disk', target: 'fleece', sync: 'none' });
  return fio(uri, { rw: 'randwrite', bs: '4k', depth: 16 }, 2);
}

/** Seconds that a job takes, from the command to its last event. */
async function untilGone(qmp: QmpClient, command: string, given: object): Promise<number> {
  const start = process.hrtime.bigint();
  await qmp.execute(command, { 'job-id': 'j', ...given });
  const { data } = await qmp.event('BLOCK_JOB_COMPLETED');
  if (data?.['error'] !== undefined) throw new Error(`${command}: ${String(data['error'])}`);
  return Number(process.hrtime.bigint() - start) / 1e9;
}
