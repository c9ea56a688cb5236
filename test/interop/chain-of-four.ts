/** A chain of four images made by QEMU's own tools, with every kind of extent at several depths. */
import { qemuImg, qemuIo, type TemporaryFolder } from '@strata/testkit';

const mebi = 2 ** 20;

/** Makes `0` (raw) to `3` (top, qcow2) in the folder and returns the path of the top. */
export async function chainOfFour(folder: TemporaryFolder): Promise<string> {
  const [base, first, second, top] = ['0', '1', '2', '3'].map((name) => folder.file(name)) as [
    string,
    string,
    string,
    string,
  ];
  await qemuImg.create(base, 3 * mebi, { format: 'raw' });
  await qemuIo(base, ['write -P 1 0 1M', 'write -P 2 2M 256k'], 'raw');
  await qemuImg.create(first, 8 * mebi, { backing: { name: base, format: 'raw' } });
  await qemuIo(first, [
    'write -P 3 512k 256k',
    'write -z 1M 128k',
    'write -P 4 5M 64k',
    'write -P 5 6M 128k',
    'write -z 6M 64k',
  ]);
  await qemuImg.create(second, 6 * mebi, {
    backing: { name: first, format: 'qcow2' },
    options: { cluster_size: 4096, compat: '0.10' },
  });
  await qemuIo(second, [
    'write -P 6 700k 12k',
    'write -c -P 7 3M 64k',
    'write -P 8 5900k 100k',
    'discard 700k 4k',
  ]);
  await qemuImg.create(top, 10 * mebi, {
    backing: { name: second, format: 'qcow2' },
    options: { cluster_size: 2 ** 17 },
  });
  await qemuIo(top, [
    'write -P 9 128k 128k',
    'write -z -u 4M 256k',
    'write -P 10 9M 300k',
    'discard 128k 128k',
  ]);
  return top;
}
