/**
 * A driver for `qemu-storage-daemon`: QEMU's block layer with its NBD server and its bitmaps, steered by QMP, without
 * a machine around it.
 */
import { join } from 'node:path';
import { connectQmp, type QmpClient } from '@strata/qmp';
import { type Server, serve } from './run.ts';

/** What the daemon opens and offers at its start. Each object is what the option takes, in QMP's form. */
export interface StorageDaemonOptions {
  readonly objects?: readonly object[];
  readonly blockdevs: readonly object[];
  /** Of the type `nbd` where they name none. */
  readonly exports?: readonly object[];
  /** The id of the `tls-creds-...` object with which the NBD server demands TLS. */
  readonly tlsCreds?: string;
}

/** A daemon; disposing of it ends it as `quit` does, with everything written and closed. */
export interface StorageDaemon extends Server {
  readonly qmp: QmpClient;
  /** The unix socket that its NBD server listens on. */
  readonly socket: string;
  /** The unix socket of a second monitor, for others: each serves one client at a time. */
  readonly control: string;
  /** The URI of an export. */
  uri(name: string): string;
}

/** Starts a daemon whose sockets lie in `folder` under `name`. What it was told to open is open when this resolves. */
export async function storageDaemon(
  folder: string,
  { objects = [], blockdevs, exports = [], tlsCreds }: StorageDaemonOptions,
  name = 'daemon',
): Promise<StorageDaemon> {
  const socket = join(folder, `${name}.nbd`);
  const monitor = join(folder, `${name}.qmp`);
  const control = join(folder, `${name}.control`);
  const nbdServer = { addr: { type: 'unix', path: socket }, ...(tlsCreds && { 'tls-creds': tlsCreds }) };
  // The daemon takes its options in order: the monitor comes last, so that whoever reaches it finds all the rest.
  const args = [
    ...objects.flatMap((object) => ['--object', JSON.stringify(object)]),
    ...blockdevs.flatMap((blockdev) => ['--blockdev', JSON.stringify(blockdev)]),
    ...['--nbd-server', JSON.stringify(nbdServer)],
    ...exports.flatMap((each) => ['--export', JSON.stringify({ type: 'nbd', ...each })]),
    ...['--chardev', `socket,id=control,server=on,wait=off,path=${control}`, '--monitor', 'chardev=control'],
    ...['--chardev', `socket,id=monitor,server=on,wait=off,path=${monitor}`, '--monitor', 'chardev=monitor'],
  ];
  let opened: QmpClient | undefined;
  const server = await serve('qemu-storage-daemon', args, async () => {
    opened = await connectQmp({ path: monitor }).catch(() => undefined);
    return opened !== undefined;
  });
  const qmp = opened as QmpClient;
  const stop = async (): Promise<number | null> => {
    await using _closedAtLast = qmp;
    return await server.stop();
  };
  return {
    ...server,
    qmp,
    socket,
    control,
    stop,
    uri: (exportName) => `nbd+unix:///${encodeURIComponent(exportName)}?socket=${socket}`,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

/** A `blockdev` of a qcow2 image in a local file. `more` are options of qcow2's own. */
export const qcow2Blockdev = (node: string, path: string, more: object = {}): object => ({
  driver: 'qcow2',
  'node-name': node,
  file: { driver: 'file', filename: path },
  ...more,
});
