// Installs the real peers that the tests run against: Debian's QEMU tools, nbdkit, libnbd, nbd-client and fio.
// Where that cannot be done it says what to install, and in CI mode it fails.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const packages = [
  'qemu-utils',
  'qemu-system-common', // has qemu-storage-daemon
  'nbdkit',
  'libnbd-bin',
  'python3-libnbd',
  'nbd-client',
  'fio',
  'e2fsprogs',
  'openssl',
  'util-linux', // has fincore
];
const tools = [
  'qemu-img',
  'qemu-io',
  'qemu-nbd',
  'qemu-storage-daemon',
  'nbdkit',
  'nbdinfo',
  'nbdcopy',
  'nbdsh',
  'nbd-client',
  'fio',
  'mke2fs',
  'openssl',
  'fincore',
];

/** @param {string} tool */
const isInstalled = (tool) =>
  [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'].some((folder) =>
    existsSync(`${folder}/${tool}`),
  );

/** @param {string} command @param {string[]} args */
const succeeds = (command, args) =>
  spawnSync(command, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  }).status === 0;

const missing = () => tools.filter((tool) => !isInstalled(tool));

if (missing().length > 0 && isInstalled('apt-get')) {
  const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  const [command, ...first] = [...asRoot, 'apt-get'];
  console.log(`installing the peers that the tests talk to: ${packages.join(' ')}`);
  const install = [...first, 'install', '-y', '--no-install-recommends', ...packages];
  succeeds(command, [...first, 'update', '-q']) && succeeds(command, install);
}
const still = missing();
if (still.length > 0) {
  console.error(`peers not installed: ${still.join(', ')}; on Debian: apt-get install ${packages.join(' ')}`);
  if (process.env.CI === 'true') process.exit(1);
  console.error('the tests that need them are skipped');
}
