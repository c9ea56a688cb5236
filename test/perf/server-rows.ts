/** Our server against qemu-nbd and nbdkit, with fio and nbdcopy as clients. */
import { runOk, type TemporaryFolder } from '@strata/testkit';
import { medians, seconds } from './measure.ts';
import type { Row } from './row.ts';
import { type Listening, startServers } from './servers.ts';

/** A kind of load. */
export interface Job {
  readonly name: string;
  readonly rw: string;
  readonly bs: string;
  readonly depth: number;
  /** The least ratio to qemu-nbd. */
  readonly bound: number;
}

const jobs: readonly Job[] = [
  { name: '4k random read, qd 32', rw: 'randread', bs: '4k', depth: 32, bound: 2.5 },
  { name: '4k random read, qd 1', rw: 'randread', bs: '4k', depth: 1, bound: 0.8 },
  { name: '4k random write, qd 32', rw: 'randwrite', bs: '4k', depth: 32, bound: 0.8 },
  { name: '64k random read, qd 16', rw: 'randread', bs: '64k', depth: 16, bound: 0.8 },
  { name: '64k random write, qd 16', rw: 'randwrite', bs: '64k', depth: 16, bound: 0.8 },
  { name: '256k sequential read, qd 16', rw: 'read', bs: '256k', depth: 16, bound: 0.8 },
  { name: '256k sequential write, qd 16', rw: 'write', bs: '256k', depth: 16, bound: 0.8 },
];

interface FioReport {
  readonly jobs: readonly {
    readonly read: { readonly iops: number };
    readonly write: { readonly iops: number };
  }[];
}

/** Operations a second that fio reaches on a server. */
export async function fio(
  uri: string,
  { rw, bs, depth }: Pick<Job, 'rw' | 'bs' | 'depth'>,
  runSeconds: number,
): Promise<number> {
  const args = [
    '--name=row',
    '--ioengine=nbd',
    `--uri=${uri}`,
    `--rw=${rw}`,
    `--bs=${bs}`,
    `--iodepth=${depth}`,
  ];
  const rest = ['--time_based', `--runtime=${runSeconds}`, '--randrepeat=0', '--output-format=json'];
  const printed = await runOk('fio', [...args, ...rest]);
  // The nbd engine announces each connection on standard output as well.
  const report = JSON.parse(printed.slice(printed.indexOf('{'))) as FioReport;
  const [job] = report.jobs;
  if (job === undefined) throw new Error('fio reported no job');
  return job.read.iops + job.write.iops;
}

/** All rows for one format. `disk` is a raw file of random bytes that lies in the page cache. */
export async function serverRows(
  folder: TemporaryFolder,
  disk: string,
  format: 'raw' | 'qcow2',
  rounds: number,
): Promise<readonly Row[]> {
  const servers = await startServers(folder, disk, format);
  try {
    const rows: Row[] = [];
    for (const job of jobs) {
      const figures = await medians(
        servers.map(({ name, uri, file }) => ({ name, files: [file], run: () => fio(uri, job, 2) })),
        rounds,
      );
      rows.push(...ratios(`${format}: ${job.name}`, servers, figures, 'more', job.bound));
    }
    const copies = servers.map(({ name, uri, file }) => ({
      name,
      files: [file],
      run: () => seconds('nbdcopy', ['--connections=4', uri, 'null:']),
    }));
    rows.push(
      ...ratios(`${format}: nbdcopy 1 GiB out, time`, servers, await medians(copies, rounds), 'less', 1.25),
    );
    return rows;
  } finally {
    for (const { server } of servers) await server.stop();
  }
}

function ratios(
  work: string,
  servers: readonly Listening[],
  figures: readonly number[],
  better: 'more' | 'less',
  bound: number,
): readonly Row[] {
  const [ours, ...peers] = figures as [number, ...number[]];
  return peers.map((figure, index) => {
    const peer = (servers[index + 1] as Listening).name;
    const row: Row = { work, peer, ratio: ours / figure, better };
    return peer === 'qemu-nbd' ? { ...row, bound } : row;
  });
}
