/** Images made to keep `info` busy: it takes little memory and reads little, whatever they claim. */
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { requires, run, type TemporaryFolder, temporaryFolder } from '@strata/testkit';

const cli = new URL('../src/cli.js', import.meta.url).href;
const MIB = 1024 * 1024;

interface Cost {
  readonly status: number;
  readonly stderr: string;
  /** The most memory that the process had, in bytes. */
  readonly memory: number;
  /** Bytes that it read, of its own code too. */
  readonly read: number;
}

/** Runs the command in a process of its own, with what it prints thrown away. */
async function costOf(...words: readonly string[]): Promise<Cost> {
  const program = `
    const { main } = await import(${JSON.stringify(cli)});
    const { readFileSync } = await import('node:fs');
    const terminal = { live: false, print: () => {}, warn: (text) => process.stderr.write(text.slice(0, 300)) };
    const status = await main(${JSON.stringify(words)}, terminal);
    const read = Number(/rchar: (\\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
    console.log(JSON.stringify({ status, memory: process.resourceUsage().maxRSS * 1024, read }));`;
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program]);
  return { ...(JSON.parse(stdout.trim()) as Omit<Cost, 'stderr'>), stderr };
}

async function patched(
  path: string,
  ...patches: readonly (readonly [at: number, bytes: Uint8Array])[]
): Promise<void> {
  await using file = await open(path, 'r+');
  for (const [at, bytes] of patches) await file.write(bytes, 0, bytes.length, at);
}

const word = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
};

const half = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** `count` entries of a snapshot table, each with an id and a name of these lengths. */
function snapshotTable(count: number, idLength: number, nameLength: number, extraLength = 16): Buffer {
  const length = Math.ceil((40 + extraLength + idLength + nameLength) / 8) * 8;
  const table = Buffer.alloc(count * length, 'x');
  for (let at = 0; at < table.length; at += length) {
    table.fill(0, at, at + 40 + extraLength);
    table.writeUInt16BE(idLength, at + 12);
    table.writeUInt16BE(nameLength, at + 14);
    table.writeUInt32BE(extraLength, at + 36);
  }
  return table;
}

const snapshots = (count: number, table: Uint8Array): (readonly [number, Uint8Array])[] => [
  [60, half(count)],
  [64, word(BigInt(MIB))],
  [MIB, table],
];

/** Bytes from 112 on: an extension, and the end of extensions. */
const extension = (type: number, claimed: number, data: Uint8Array): readonly [number, Uint8Array] => [
  112,
  Buffer.concat([half(type), half(claimed), data, Buffer.alloc(16)]),
];

/** A directory of `count` bitmaps, each with a table of 4,096 entries at 64 KiB: the refcount table. */
function bitmapDirectory(count: number, nameLength: number): Buffer {
  const length = Math.ceil((24 + nameLength) / 8) * 8;
  const directory = Buffer.alloc(count * length, 'x');
  for (let index = 0; index < count; index++) {
    const at = index * length;
    directory.fill(0, at, at + 24);
    directory.writeBigUInt64BE(65_536n, at);
    directory.writeUInt32BE(4096, at + 8);
    directory.writeUInt32BE(1, at + 12);
    directory[at + 16] = 1;
    directory[at + 17] = 16;
    directory.writeUInt16BE(nameLength, at + 18);
    directory.write(String(index), at + 24);
  }
  return directory;
}

const bitmaps = (count: number, nameLength: number): (readonly [number, Uint8Array])[] => {
  const directory = bitmapDirectory(count, nameLength);
  const data = Buffer.concat([half(count), half(0), word(BigInt(directory.length)), word(BigInt(MIB))]);
  return [[88, word(1n)], extension(0x23852875, 24, data), [MIB, directory]];
};

const BOMBS: readonly (readonly [what: string, ...patches: (readonly [number, Uint8Array])[]])[] = [
  ['65,536 snapshots', ...snapshots(65_536, snapshotTable(65_536, 10, 900))],
  ['snapshots whose names take 60 MiB', ...snapshots(480, snapshotTable(480, 65_535, 65_535))],
  ['snapshots behind the end of the file', [60, half(65_536)], [64, word(2n ** 40n)]],
  ['snapshots of zeros', [60, half(65_536)], [64, word(BigInt(MIB))], [65 * MIB, Buffer.alloc(1)]],
  ['65,535 bitmaps', ...bitmaps(65_535, 8)],
  ['bitmaps whose names take 50 MiB', ...bitmaps(50_000, 1000)],
  [
    'an L1 table of 32 MiB',
    [36, half(4 * MIB)],
    [24, word(2n ** 51n)],
    [40, word(BigInt(MIB))],
    [40 * MIB, Buffer.alloc(1)],
  ],
  ['a refcount table of 8 MiB', [56, half(128)], [48, word(BigInt(MIB))], [16 * MIB, Buffer.alloc(1)]],
  ['a header extension of 2 GiB', extension(0x12345678, 0x7fff_ffff, Buffer.alloc(8))],
  ['a header extension to the end of the cluster', extension(0x12345678, 65_000, Buffer.alloc(64_000, 1))],
];

async function imageIn(folder: TemporaryFolder, name: string): Promise<string> {
  const path = folder.file(name);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
  return path;
}

test(
  'info of an image that lies about its tables takes 96 MiB more than of an empty one at most',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const empty = await costOf('info', await imageIn(folder, 'empty.qcow2'));
    assert.equal(empty.status, 0, empty.stderr);
    for (const [what, ...patches] of BOMBS) {
      const path = await imageIn(folder, 'bomb.qcow2');
      await patched(path, ...patches);
      const cost = await costOf('info', path);
      const told = `${what}: ${JSON.stringify(cost)} against ${JSON.stringify(empty)}`;
      assert.doesNotMatch(cost.stderr, /\n\s+at /, told);
      assert.ok(cost.memory - empty.memory <= 96 * MIB, told);
      // The largest table that is looked at is 64 MiB; a part that crosses a buffer's end is read twice.
      assert.ok(cost.read - empty.read <= 144 * MIB, told);
    }
  },
);

test('a list of snapshots, too', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const empty = await costOf('snapshot', '-l', await imageIn(folder, 'empty.qcow2'));
  const path = await imageIn(folder, 'bomb.qcow2');
  await patched(path, ...snapshots(480, snapshotTable(480, 65_535, 65_535)));
  const cost = await costOf('snapshot', '-l', path);
  assert.equal(cost.status, 0, cost.stderr);
  assert.ok(cost.memory - empty.memory <= 96 * MIB, JSON.stringify([cost, empty]));
});
