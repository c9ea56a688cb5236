/** The laws of disks on exports of every kind of server. */
import { type BlockDevice, MemoryDevice } from '@strata/block';
import {
  type BlockSubject,
  blockSuite,
  nbdkit,
  qemuImg,
  qemuIo,
  qemuNbd,
  requires,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { type OpenNbdOptions, openNbd } from '../../src/client/device.ts';
import { listen } from '../../src/server/listen.ts';

/** An export whose server is started on a socket in a folder of its own. */
async function subject(
  start: (socket: string, folder: TemporaryFolder) => Promise<AsyncDisposable>,
  options: OpenNbdOptions & { readonly below?: Uint8Array } = {},
): Promise<BlockSubject> {
  const folder = await temporaryFolder();
  const server = await start(folder.file('s'), folder);
  const target = { address: { path: folder.file('s') }, exportName: '', user: undefined };
  const open = async (): Promise<BlockDevice> => {
    const { device } = await openNbd(target, options);
    if (device === undefined) throw new Error('the export is read-only');
    return device;
  };
  let device = await open();
  return {
    device,
    ...(options.below && { below: options.below }),
    reopen: async () => {
      await device[Symbol.asyncDispose]();
      device = await open();
      return device;
    },
    [Symbol.asyncDispose]: async () => {
      await device[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

for (const connections of [1, 4]) {
  blockSuite({
    name: `our server, ${connections} connections`,
    open: () =>
      subject(
        (path) => listen({ exports: [{ name: '', device: new MemoryDevice(234_567) }], address: { path } }),
        {
          connections,
        },
      ),
  });
}

blockSuite({
  name: 'nbdkit',
  needs: requires('nbdkit'),
  open: () => subject((socket) => nbdkit(socket, ['memory', '234567'])),
});

blockSuite({
  name: 'nbdkit with simple replies and without zeroing',
  needs: requires('nbdkit'),
  open: () => subject((socket) => nbdkit(socket, ['--no-sr', '--filter=nozero', 'memory', '234567'])),
});

const policy = ['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=65536'];

blockSuite({
  name: 'nbdkit with blocks of 4 KiB and payloads of 64 KiB',
  needs: requires('nbdkit'),
  open: () =>
    subject((socket) =>
      nbdkit(socket, [
        '--filter=blocksize-policy',
        'memory',
        '256K',
        ...policy,
        'blocksize-error-policy=error',
      ]),
    ),
});

blockSuite({
  name: 'qemu-nbd with a raw image',
  needs: requires('qemu-img', 'qemu-nbd'),
  open: () =>
    subject(async (socket, folder) => {
      await qemuImg.create(folder.file('a'), 234_496, { format: 'raw' });
      return qemuNbd(folder.file('a'), socket, ['-f', 'raw', '--discard=unmap']);
    }),
});

blockSuite({
  name: 'qemu-nbd with an overlay and allocation depth',
  needs: requires('qemu-img', 'qemu-io', 'qemu-nbd'),
  open: () =>
    subject(
      async (socket, folder) => {
        await qemuImg.create(folder.file('base'), 262_144);
        await qemuIo(folder.file('base'), ['write -P 7 0 256k']);
        const backing = { name: folder.file('base'), format: 'qcow2' };
        await qemuImg.create(folder.file('top'), 262_144, { backing, options: { cluster_size: 4096 } });
        return qemuNbd(folder.file('top'), socket, ['-f', 'qcow2', '-A', '--discard=unmap']);
      },
      { below: new Uint8Array(262_144).fill(7) },
    ),
});
