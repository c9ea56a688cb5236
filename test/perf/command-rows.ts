/** The `img` command against qemu-img, as whole processes. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { openWritableChain } from '@strata/chain';
import { qemuImg, type TemporaryFolder } from '@strata/testkit';
import { openingIn } from '../local-files.ts';
import { seconds, shortest } from './measure.ts';
import type { Row } from './row.ts';
import { img } from './servers.ts';

/** All rows. `disk` is a raw file that lies in the page cache. */
export async function commandRows(
  folder: TemporaryFolder,
  disk: string,
  rounds: number,
): Promise<readonly Row[]> {
  const image = folder.file('disk.qcow2');
  await qemuImg.ok('convert', '-f', 'raw', '-O', 'qcow2', disk, image);
  const fragmented = await fragmentedImage(folder);

  const against = async (
    work: string,
    args: readonly string[],
    bound: number,
    output?: string,
  ): Promise<Row> => {
    const contestant = (name: string, command: string, first: readonly string[]) => ({
      name,
      files: args.filter((arg) => arg !== output && existsSync(arg)),
      ...(output !== undefined && { output: { path: output, bytes: 2 ** 30 } }),
      run: () => seconds(command, [...first, ...args]),
    });
    const [ours, theirs] = (await shortest(
      [contestant('strata', process.execPath, [img]), contestant('qemu-img', 'qemu-img', [])],
      3 * rounds,
    )) as [number, number];
    if (output !== undefined) await rm(output);
    return { work, peer: 'qemu-img', ratio: ours / theirs, better: 'less', bound };
  };

  const out = folder.file('out');
  return [
    await against(
      'convert raw to qcow2, time',
      ['convert', '-f', 'raw', '-O', 'qcow2', disk, out],
      1.25,
      out,
    ),
    await against(
      'convert qcow2 to raw, time',
      ['convert', '-f', 'qcow2', '-O', 'raw', image, out],
      1.25,
      out,
    ),
    await against(
      'convert -C raw to qcow2, time',
      ['convert', '-C', '-f', 'raw', '-O', 'qcow2', disk, out],
      1.25,
      out,
    ),
    await against('compare raw with qcow2, time', ['compare', '-f', 'raw', '-F', 'qcow2', disk, image], 1.25),
    await against(
      'map of a fragmented image, time',
      ['map', '-f', 'qcow2', '--output=json', fragmented],
      1.25,
    ),
    await infoRow(image, rounds * 5),
  ];
}

/** `info` is judged by what starting Node alone costs: qemu-img is a native program. */
async function infoRow(image: string, rounds: number): Promise<Row> {
  const [info, nothing] = (await shortest(
    [
      { name: 'info', run: () => seconds(process.execPath, [img, 'info', '-f', 'qcow2', image]) },
      { name: 'node', run: () => seconds(process.execPath, ['-e', '0']) },
    ],
    rounds,
  )) as [number, number];
  return { work: 'info, time', peer: 'node -e 0', ratio: info / nothing, better: 'less', bound: 1.5 };
}

/** 131,072 runs: every other 4 KiB cluster of 1 GiB is written, so that no two extents can be told as one. */
async function fragmentedImage(folder: TemporaryFolder): Promise<string> {
  const path = folder.file('fragmented.qcow2');
  const size = 2 ** 30;
  await qemuImg.create(path, size, { options: { cluster_size: 4096 } });
  await using chain = await openWritableChain(path, { ...openingIn(folder.path), format: 'qcow2' });
  const cluster = new Uint8Array(4096).fill(1);
  for (let offset = 0; offset < size; offset += 8192) await chain.device.write(cluster, offset);
  return path;
}
