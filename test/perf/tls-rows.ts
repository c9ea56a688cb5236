/**
 * Our server with TLS against qemu-nbd and nbdkit with TLS, raw, with nbdcopy as client; and our client against qemu-img
 * and nbdcopy.
 *
 * nbdcopy lets the page cache go of what it has written. Where touching fresh memory is slow, as in virtual machines, that
 * is most of the difference to it; qemu-img and we leave the image in the cache.
 *
 * fio's nbd engine cannot be told credentials. Each server speaks what it and GnuTLS agree on by themselves.
 */
import { existsSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { nbdkit, qemuNbd, type Server, serve, type TemporaryFolder, tlsFolder } from '@strata/testkit';
import { medians, seconds } from './measure.ts';
import type { Row } from './row.ts';
import { img } from './servers.ts';

/** `disk` is a raw file of random bytes that lies in the page cache. */
export async function tlsRows(
  folder: TemporaryFolder,
  disk: string,
  rounds: number,
): Promise<readonly Row[]> {
  const dir = folder.file('pki');
  await tlsFolder(dir);
  const names = ['strata', 'qemu-nbd', 'nbdkit'] as const;
  const socket = (name: string): string => folder.file(`${name}-tls.sock`);
  const copies = await Promise.all(
    names.map(async (name) => {
      const path = folder.file(`${name}-tls.raw`);
      await copyFile(disk, path);
      return path;
    }),
  );
  const [ours = '', qemu = '', kit = ''] = copies;
  const creds = [
    '--object',
    `tls-creds-x509,id=t,endpoint=server,verify-peer=off,dir=${dir}`,
    '--tls-creds',
    't',
  ];
  const servers: readonly Server[] = [
    await serve(process.execPath, [img, 'serve', '-f', 'raw', '-k', socket('strata'), ...creds, ours], () =>
      existsSync(socket('strata')),
    ),
    await qemuNbd(qemu, socket('qemu-nbd'), ['-f', 'raw', ...creds]),
    await nbdkit(socket('nbdkit'), ['--tls=require', `--tls-certificates=${dir}`, 'file', kit]),
  ];
  const query = `tls-certificates=${dir}&tls-hostname=localhost`;
  const uri = (name: string): string => `nbds+unix:///?socket=${socket(name)}&${query}`;
  try {
    const out = names.map((name) => ({
      name,
      run: () => seconds('nbdcopy', ['--connections=4', uri(name), 'null:']),
    }));
    const into = names.map((name) => ({
      name,
      run: () => seconds('nbdcopy', ['--connections=4', disk, uri(name)]),
    }));
    const target = folder.file('out.raw');
    const client = ['--object', `tls-creds-x509,id=t,dir=${dir}`, '--image-opts'];
    const exported = `driver=raw,file.driver=nbd,file.path=${socket('qemu-nbd')},file.tls-creds=t,file.tls-hostname=localhost`;
    const clients = [
      {
        name: 'img convert',
        run: () =>
          seconds(process.execPath, [img, 'convert', '-f', 'raw', '-O', 'raw', uri('qemu-nbd'), target]),
      },
      {
        name: 'qemu-img convert',
        run: () => seconds('qemu-img', ['convert', ...client, '-O', 'raw', exported, target]),
      },
      { name: 'nbdcopy', run: () => seconds('nbdcopy', [uri('qemu-nbd'), target]) },
    ];
    const comparing = [
      {
        name: 'img compare',
        run: () =>
          seconds(process.execPath, [img, 'compare', '-f', 'raw', '-F', 'raw', uri('qemu-nbd'), disk]),
      },
      {
        name: 'qemu-img compare',
        run: () => seconds('qemu-img', ['compare', ...client, exported, `driver=raw,file.filename=${disk}`]),
      },
    ];
    return [
      ...ratios('TLS: nbdcopy 1 GiB out, time', names, await medians(out, rounds), 1.5),
      ...ratios('TLS: nbdcopy 1 GiB in, time', names, await medians(into, rounds), 1.25),
      ...ratios(
        'TLS: 1 GiB from qemu-nbd to a file, time',
        ['', 'qemu-img', 'nbdcopy'],
        await medians(clients, rounds),
        1.5,
      ),
      ...ratios(
        'TLS: an export compared with a file, time',
        ['', 'qemu-img'],
        await medians(comparing, rounds),
        1.5,
      ),
    ];
  } finally {
    for (const server of servers) await server.stop();
  }
}

/** `bound` is that of the ratio to QEMU's tools. */
function ratios(
  work: string,
  names: readonly string[],
  [ours = 0, ...peers]: readonly number[],
  bound: number,
): readonly Row[] {
  return peers.map((figure, index) => {
    const peer = names[index + 1] ?? '';
    const row: Row = { work, peer, ratio: ours / figure, better: 'less' };
    return peer.startsWith('qemu') ? { ...row, bound } : row;
  });
}
