/**
 * Encrypted copies against qemu-img, as whole processes.
 *
 * Targets are made once and written anew in every round: making one costs both what deriving a key costs, which
 * is a matter of choice and not of speed. Keys take few iterations here, so that opening counts for nothing.
 */
import { runOk, type TemporaryFolder } from '@strata/testkit';
import { medians, seconds } from './measure.ts';
import type { Row } from './row.ts';
import { img } from './servers.ts';

const secret = ['--object', 'secret,id=s,data=bench'];

/** All rows. `disk` is a raw file of random bytes that lies in the page cache. */
export async function encryptionRows(
  folder: TemporaryFolder,
  disk: string,
  rounds: number,
): Promise<readonly Row[]> {
  const made = async (format: 'luks' | 'qcow2', name: string): Promise<{ path: string; options: string }> => {
    const path = folder.file(name);
    const prefix = format === 'luks' ? '' : 'encrypt.';
    const list = `${prefix}key-secret=s,${prefix}iter-time=10${format === 'luks' ? '' : ',encrypt.format=luks'}`;
    await runOk(process.execPath, [
      img,
      'convert',
      ...secret,
      '-f',
      'raw',
      '-O',
      format,
      '-o',
      list,
      disk,
      path,
    ]);
    return { path, options: `driver=${format},${prefix}key-secret=s,file.filename=${path}` };
  };
  const against = async (work: string, files: readonly string[], args: readonly string[]): Promise<Row> => {
    const run = (command: string, first: readonly string[]) => () =>
      seconds(command, [...first, 'convert', ...secret, ...args]);
    const [ours, theirs] = (await medians(
      [
        { name: 'strata', files, run: run(process.execPath, [img]) },
        { name: 'qemu-img', files, run: run('qemu-img', []) },
      ],
      rounds,
    )) as [number, number];
    return { work, peer: 'qemu-img', ratio: ours / theirs, better: 'less', bound: 2 };
  };

  const rows: Row[] = [];
  for (const format of ['luks', 'qcow2'] as const) {
    const { path, options } = await made(format, `encrypted.${format}`);
    const into = ['-n', '-f', 'raw', '--target-image-opts', disk, options];
    const out = ['--image-opts', '-O', 'raw', options, folder.file('out.raw')];
    rows.push(
      await against(`convert raw to encrypted ${format}, time`, [disk, path], into),
      await against(`convert encrypted ${format} to raw, time`, [path], out),
    );
  }
  return rows;
}
