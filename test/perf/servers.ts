/** The servers under test, each on a copy of the same disk, all up at once and used in turn. */

import { existsSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { nbdkit, qemuImg, qemuNbd, type Server, serve, type TemporaryFolder } from '@strata/testkit';

/** The `img` command as users run it. */
export const img = fileURLToPath(new URL('../../../packages/img/bin/img.js', import.meta.url));

/** A server and where it listens. */
export interface Listening {
  readonly name: 'strata' | 'qemu-nbd' | 'nbdkit';
  readonly uri: string;
  readonly server: Server;
  /** What it serves. */
  readonly file: string;
}

const uriOf = (socket: string): string => `nbd+unix:///?socket=${socket}`;

/** Serves `disk` (raw) with each server, as raw or inside a qcow2 image. nbdkit has no writable qcow2 and serves raw only. */
export async function startServers(
  folder: TemporaryFolder,
  disk: string,
  format: 'raw' | 'qcow2',
): Promise<readonly Listening[]> {
  const copy = async (name: string): Promise<string> => {
    const path = folder.file(`${name}.${format}`);
    if (format === 'raw') await copyFile(disk, path);
    else await qemuImg.ok('convert', '-f', 'raw', '-O', 'qcow2', disk, path);
    return path;
  };
  const socket = (name: string): string => folder.file(`${name}-${format}.sock`);
  const listening: Listening[] = [];

  const ours = socket('strata');
  const served = await copy('strata');
  listening.push({
    name: 'strata',
    uri: uriOf(ours),
    server: await serve(process.execPath, [img, 'serve', '-f', format, '-k', ours, served], () =>
      existsSync(ours),
    ),
    file: served,
  });

  const qemu = socket('qemu');
  const theirs = await copy('qemu');
  listening.push({
    name: 'qemu-nbd',
    uri: uriOf(qemu),
    server: await qemuNbd(theirs, qemu, ['-f', format]),
    file: theirs,
  });

  if (format === 'raw') {
    const kit = socket('nbdkit');
    const its = await copy('nbdkit');
    listening.push({
      name: 'nbdkit',
      uri: uriOf(kit),
      server: await nbdkit(kit, ['file', its]),
      file: its,
    });
  }
  return listening;
}
