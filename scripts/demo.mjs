// `npm start`: the main job on real input, with the commands that do it and what they print.
//
// A partitioned disk with a file system of real files becomes a qcow2 base with two overlays; changes arrive over NBD
// from our own client; the chain is mapped, served, committed, checked, and compared with what it must equal.
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openNbd } from '@strata/nbd';

const root = fileURLToPath(new URL('..', import.meta.url));
const launcher = join(root, 'packages/img/bin/img.js');
const folder = mkdtempSync(join(tmpdir(), 'strata-demo-'));
process.chdir(folder);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const mebi = 2 ** 20;
const diskSize = 64 * mebi;
const partitionStart = mebi;

/** @param {string} text */
const say = (text) => console.log(`\n\x1b[1m# ${text}\x1b[0m`);

/** Shows a command, runs it, and shows what it prints. @param {string} line */
function show(line) {
  console.log(`$ ${line}`);
  const printed = run(line);
  process.stdout.write(printed);
}

/** Runs a command that must succeed, and returns what it prints. @param {string} line */
function run(line) {
  const [program, ...args] = line.split(' ');
  const command = program === 'img' ? process.execPath : program;
  const { status, stdout, stderr } = spawnSync(command, program === 'img' ? [launcher, ...args] : args, {
    encoding: 'utf8',
  });
  if (status !== 0) fail(`${line} ended with ${status}: ${stdout}${stderr}`);
  return stdout + stderr;
}

/** @param {string} why @returns {never} */
function fail(why) {
  console.error(`\nthe demo failed: ${why}`);
  process.exit(1);
}

/** Serves while `work` runs, and stops the server cleanly. @param {string} line @param {(uri: string) => unknown} work */
async function whileServing(line, work) {
  console.log(`$ ${line} &`);
  const server = spawn(process.execPath, [launcher, ...line.split(' ').slice(1)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => server.on('close', resolve));
  const printed = new Promise((resolve) =>
    server.stdout.once('data', (text) => resolve(String(text).trim())),
  );
  const uri = await Promise.race([printed, ended]);
  if (typeof uri !== 'string') fail(`${line} ended with ${uri}`);
  console.log(uri);
  await work(uri);
  server.kill('SIGTERM');
  if ((await ended) !== 0) fail(`${line} did not stop cleanly`);
}

/** The changes of the demo: what is written where. @type {Record<string, [offset: number, bytes: Buffer][]>} */
const changes = {
  web: [
    [20 * mebi + 12_345, Buffer.alloc(300_000, 'the first overlay ')],
    [40 * mebi, Buffer.alloc(65_536, 'a cluster of its own ')],
  ],
  test: [
    [20 * mebi + 100_000, Buffer.alloc(5000, 'the second overlay ')],
    [diskSize - 512, Buffer.alloc(512, 'the last sector ')],
  ],
};

/** @param {string} uri @param {[number, Buffer][]} writes */
async function writeOverNbd(uri, writes) {
  console.log(`> import { openNbd } from '@strata/nbd';\n> const { device } = await openNbd('${uri}');`);
  const connection = await openNbd(uri);
  if (connection.device === undefined) fail('the export cannot be written');
  for (const [offset, bytes] of writes) {
    console.log(`> await device.write(<${bytes.length} bytes '${bytes.subarray(0, 17)}...'>, ${offset});`);
    await connection.device.write(bytes, offset);
  }
  console.log('> await device.flush();');
  await connection.device.flush();
  await connection[Symbol.asyncDispose]();
}

/** A disk with one partition, and real files in it where a file system can be made. */
function makeDisk() {
  const file = openSync('disk.raw', 'w');
  const mbr = Buffer.alloc(512);
  mbr.set([0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff], 446);
  mbr.writeUInt32LE(partitionStart / 512, 454);
  mbr.writeUInt32LE((diskSize - partitionStart) / 512, 458);
  mbr.set([0x55, 0xaa], 510);
  writeSync(file, mbr, 0, 512, 0);
  writeSync(file, Buffer.alloc(1), 0, 1, diskSize - 1);
  const make = ['/usr/sbin/mke2fs', '/sbin/mke2fs', '/usr/bin/mke2fs'].find(existsSync);
  const source = join(root, 'packages');
  if (make !== undefined) {
    const size = `${(diskSize - partitionStart) / 1024}k`;
    console.log(`$ mke2fs -q -t ext4 -d packages -E offset=${partitionStart} disk.raw ${size}`);
    const args = [
      '-q',
      '-t',
      'ext4',
      '-d',
      source,
      '-E',
      `offset=${partitionStart},no_copy_xattrs`,
      'disk.raw',
      size,
    ];
    const { status } = spawnSync(make, args, { stdio: ['ignore', 'inherit', 'ignore'] });
    if (status === 0) return 'an ext4 file system with the sources of Strata';
  }
  let at = partitionStart;
  for (const entry of readdirSync(source, { recursive: true })) {
    const path = join(source, String(entry));
    if (path.includes('node_modules') || !path.endsWith('.ts') || !statSync(path).isFile()) continue;
    const bytes = Buffer.concat([Buffer.from(`${relative(root, path)}\n`), readFileSync(path)]);
    writeSync(file, bytes, 0, bytes.length, at);
    at += Math.ceil(bytes.length / 4096) * 4096;
  }
  return 'the sources of Strata one after the other (there is no mke2fs here)';
}

say('A disk of 64 MiB: a partition table and one partition with real files');
const content = makeDisk();
console.log(`disk.raw: one partition, ${content}`);

say('It becomes a qcow2 base, with two overlays on it');
show('img convert -f raw -O qcow2 disk.raw base.qcow2');
show('img create -f qcow2 -b base.qcow2 -F qcow2 web.qcow2');
await whileServing('img serve -f qcow2 -k web.sock web.qcow2', (uri) => writeOverNbd(uri, changes.web));
show('img create -f qcow2 -b web.qcow2 -F qcow2 test.qcow2');
await whileServing('img serve -f qcow2 -k test.sock test.qcow2', (uri) => writeOverNbd(uri, changes.test));

say('What the chain is, and which image holds what');
show('img info --backing-chain test.qcow2');
const range = '--start-offset=20M --max-length=1M';
show('img map test.qcow2');
show(`img map --output=json ${range} test.qcow2`);
const local = JSON.parse(run('img map --output=json test.qcow2'));

say('The chain served over NBD: its depths come back over the wire');
let wire = [];
await whileServing('img serve -r -f qcow2 -k chain.sock test.qcow2', (uri) => {
  show(`img map --output=json ${range} ${uri}`);
  wire = JSON.parse(run(`img map --output=json ${uri}`));
});
const holder = (map, offset) =>
  map.find((entry) => entry.start <= offset && offset < entry.start + entry.length);
const probes = Object.values(changes)
  .flat()
  .map(([offset]) => offset)
  .concat(0, partitionStart + 1024);
for (const offset of probes) {
  const [here, there] = [holder(local, offset), holder(wire, offset)];
  if (here.depth !== there.depth)
    fail(`depth at ${offset} is ${here.depth} in the file and ${there.depth} over the wire`);
}

say('Commit: what the top holds moves into the image below');
const expected = readFileSync('disk.raw');
for (const [offset, bytes] of Object.values(changes).flat()) bytes.copy(expected, offset);
writeFileSync('expected.raw', expected);
show('img compare -f raw -F qcow2 expected.raw test.qcow2');
show('img commit -f qcow2 test.qcow2');
show('img map test.qcow2');

say('Check every image, and compare the chain with what it must equal');
for (const image of ['base.qcow2', 'web.qcow2', 'test.qcow2']) show(`img check -f qcow2 ${image}`);
show('img compare -f raw -F qcow2 expected.raw test.qcow2');
show('img compare -f raw -F qcow2 expected.raw web.qcow2');
const hasQemu = spawnSync('qemu-img', ['--version']).status === 0;
if (hasQemu) {
  say('QEMU is installed here: its opinion');
  for (const image of ['base.qcow2', 'web.qcow2', 'test.qcow2']) show(`qemu-img check -q -f qcow2 ${image}`);
  show('qemu-img compare -f raw -F qcow2 expected.raw test.qcow2');
}
console.log(
  `\nverified: ${probes.length} depths read over NBD equal those in the files; 3 images are clean; before and after the commit the chain equals the expected disk byte for byte${hasQemu ? ', for qemu-img too' : ''}.`,
);
