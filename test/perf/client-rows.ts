/** Our client against qemu-img's and nbdcopy: one disk out of a server of nbdkit, and compared with what was copied. */
import { rm } from 'node:fs/promises';
import { nbdkit, type TemporaryFolder } from '@strata/testkit';
import { medians, seconds } from './measure.ts';
import type { Row } from './row.ts';
import { img } from './servers.ts';

/** All rows. `disk` is a raw file that lies in the page cache. */
export async function clientRows(
  folder: TemporaryFolder,
  disk: string,
  rounds: number,
): Promise<readonly Row[]> {
  const socket = folder.file('clients.sock');
  const uri = `nbd+unix:///?socket=${socket}`;
  const out = folder.file('copied.raw');
  await using _server = await nbdkit(socket, ['-r', 'file', disk]);
  const contestant = (name: string, command: string, args: readonly string[], output?: string) => ({
    name,
    run: async () => {
      if (output !== undefined) await rm(output, { force: true });
      return seconds(command, args);
    },
  });
  const convert = ['convert', '-f', 'raw', '-O', 'raw', uri, out];
  const compare = ['compare', '-f', 'raw', '-F', 'raw', disk, uri];
  const [ours, qemu, libnbd] = (await medians(
    [
      contestant('strata', process.execPath, [img, ...convert], out),
      contestant('qemu-img', 'qemu-img', convert, out),
      contestant('nbdcopy', 'nbdcopy', [uri, out], out),
    ],
    rounds,
  )) as [number, number, number];
  await rm(out, { force: true });
  const [same, theirs] = (await medians(
    [contestant('strata', process.execPath, [img, ...compare]), contestant('qemu-img', 'qemu-img', compare)],
    rounds,
  )) as [number, number];
  const row = (work: string, peer: string, ratio: number, bound?: number): Row => ({
    work,
    peer,
    ratio,
    better: 'less',
    ...(bound !== undefined && { bound }),
  });
  return [
    row('convert an export of 1 GiB to a file, time', 'qemu-img', ours / qemu, 2),
    row('convert an export of 1 GiB to a file, time', 'nbdcopy', ours / libnbd),
    row('compare an export with a file, time', 'qemu-img', same / theirs, 1.5),
  ];
}
