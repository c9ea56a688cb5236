/** What it costs to record: our server on an image with a dirty bitmap against our server on one without. */
import { existsSync } from 'node:fs';
import { qemuImg, runOk, type Server, serve, type TemporaryFolder } from '@strata/testkit';
import { medians } from './measure.ts';
import type { Row } from './row.ts';
import { fio, type Job } from './server-rows.ts';
import { img } from './servers.ts';

const job: Job = { name: '4k random write, qd 32', rw: 'randwrite', bs: '4k', depth: 32, bound: 0.9 };
/** The finest that is usual: every write is a granule of its own. */
const granularity = '4k';

/** All rows. `disk` is a raw file of random bytes that lies in the page cache. */
export async function trackingRows(
  folder: TemporaryFolder,
  disk: string,
  rounds: number,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const format of ['raw', 'qcow2'] as const) {
    const servers: Server[] = [];
    try {
      const contestants = [];
      for (const name of ['recording', 'plain']) {
        const file = folder.file(`${name}.${format}`);
        await qemuImg.ok('convert', '-f', 'raw', '-O', format, disk, file);
        if (name === 'recording')
          await runOk(process.execPath, [img, 'bitmap', '--add', '-g', granularity, '-f', format, file, 'b']);
        const socket = folder.file(`${name}-${format}.sock`);
        const args = [img, 'serve', '-f', format, '-k', socket, file];
        servers.push(await serve(process.execPath, args, () => existsSync(socket)));
        const uri = `nbd+unix:///?socket=${socket}`;
        contestants.push({ name, files: [file], run: () => fio(uri, job, 2) });
      }
      const [recording, plain] = (await medians(contestants, 2 * rounds + 1)) as [number, number];
      const work = `${format}: ${job.name}, recording`;
      rows.push({ work, peer: 'not so', ratio: recording / plain, better: 'more', bound: job.bound });
    } finally {
      for (const server of servers) await server.stop();
    }
  }
  return rows;
}
