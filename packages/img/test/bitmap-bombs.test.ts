/** Bitmaps made to keep commands busy, inside an image and beside one: every command ends soon and takes little. */
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { type Cost, costOf, extension, half, imageIn, MIB, patched, word } from './bomb-images.ts';

/** Bitmaps of one kind. */
interface Bombs {
  readonly count: number;
  readonly nameLength?: number;
  readonly granularityBits?: number;
  readonly tableEntries?: number;
  /** Where the table of a bitmap is; one for all if not given. */
  readonly tableAt?: (index: number) => number;
  /** 1: in use, 2: records. */
  readonly flags?: number;
  /** What the header says instead of the truth. */
  readonly claimed?: { readonly count?: number; readonly directorySize?: number };
  readonly tables?: readonly (readonly [number, Uint8Array])[];
}

const directoryAt = 64 * MIB;
const tableAt = 192 * MIB;

function directoryOf(bombs: Bombs): Buffer {
  const { count, nameLength = 8, granularityBits = 16, tableEntries = 1, flags = 0 } = bombs;
  const length = Math.ceil((24 + nameLength) / 8) * 8;
  const directory = Buffer.alloc(count * length, 'x');
  for (let index = 0; index < count; index++) {
    const at = index * length;
    directory.fill(0, at, at + 24);
    directory.writeBigUInt64BE(BigInt(bombs.tableAt?.(index) ?? tableAt), at);
    directory.writeUInt32BE(tableEntries, at + 8);
    directory.writeUInt32BE(flags, at + 12);
    directory[at + 16] = 1;
    directory[at + 17] = granularityBits;
    directory.writeUInt16BE(nameLength, at + 18);
    directory.write(String(index), at + 24);
  }
  return directory;
}

async function bombed(folder: TemporaryFolder, bombs: Bombs, size: string): Promise<string> {
  const path = await imageIn(folder, 'bomb.qcow2', size);
  const directory = directoryOf(bombs);
  const { count = bombs.count, directorySize = directory.length } = bombs.claimed ?? {};
  const data = Buffer.concat([half(count), half(0), word(BigInt(directorySize)), word(BigInt(directoryAt))]);
  const parts: (readonly [number, Uint8Array])[] = [[88, word(1n)], extension(0x23852875, 24, data)];
  await patched(path, ...parts, [directoryAt, directory], ...(bombs.tables ?? []));
  return path;
}

/** A table of `entries` words that all are `value`. */
const tableOf = (entries: number, value: number): Buffer => {
  const table = Buffer.alloc(entries * 8);
  if (value !== 0) for (let at = 0; at < table.length; at += 8) table.writeBigUInt64BE(BigInt(value), at);
  return table;
};

const bits = 128 * MIB;
const oneCluster = [bits, Buffer.alloc(65_536, 0x5a)] as const;

/** What there is to make of them, and the size of the disk. */
const BOMBS: readonly (readonly [what: string, size: string, bombs: Bombs])[] = [
  [
    // reliability.md 1d: qemu-img info takes 4 GiB and 14 s.
    '8 bitmaps of 64 TiB, all ones',
    '64T',
    { count: 8, granularityBits: 14, tableEntries: 8192, flags: 2, tables: [[tableAt, tableOf(8192, 1)]] },
  ],
  [
    '65,535 bitmaps of 64 TiB, all ones, with one table',
    '64T',
    { count: 65_535, granularityBits: 14, tableEntries: 8192, tables: [[tableAt, tableOf(8192, 1)]] },
  ],
  [
    '2,000 bitmaps that all lead to one cluster of bits',
    '64T',
    {
      count: 2000,
      granularityBits: 14,
      tableEntries: 8192,
      flags: 2,
      tables: [oneCluster, [tableAt, tableOf(8192, bits)]],
    },
  ],
  ['65,535 bitmaps', '64M', { count: 65_535, flags: 2 }],
  ['65,535 bitmaps with a table each', '64M', { count: 65_535, tableAt: (index) => (index + 1) * 2 ** 30 }],
  ['bitmaps whose names take 50 MiB', '64M', { count: 50_000, nameLength: 1000 }],
  ['a name that is too long', '64M', { count: 1, nameLength: 1024 }],
  [
    'a name that ends behind the directory',
    '64M',
    { count: 1, nameLength: 8, claimed: { directorySize: 24 } },
  ],
  ['more bitmaps than there are', '64M', { count: 1, claimed: { count: 65_535 } }],
  ['more bitmaps than there may be', '64M', { count: 1, claimed: { count: 65_536 } }],
  ['a directory of 4 GiB', '64M', { count: 1, claimed: { directorySize: 2 ** 32 } }],
  ['a directory of 64 MiB of zeros', '64M', { count: 1, claimed: { directorySize: 64 * MIB - 65_536 } }],
  ['granules of 512 bytes on 64 TiB', '64T', { count: 1, granularityBits: 9, tableEntries: 8192 }],
  ['granules of 2 GiB', '64T', { count: 100, granularityBits: 31, flags: 2 }],
  ['granules of 256 bytes', '64M', { count: 1, granularityBits: 8 }],
  ['granules of 4 GiB', '64M', { count: 1, granularityBits: 32 }],
  ['a table of 2^27 entries', '64M', { count: 1, tableEntries: 2 ** 27, flags: 1 }],
  ['a table of 2^32 - 1 entries', '64M', { count: 1, tableEntries: 2 ** 32 - 1, flags: 1 }],
  ['a table behind the end of the file', '64M', { count: 1, tableAt: () => 2 ** 52 }],
  ['a table on the header', '64M', { count: 1, tableAt: () => 0 }],
  ['tables that lie on the directory', '64M', { count: 1000, tableAt: () => directoryAt, flags: 2 }],
];

/** Bytes of memory and of reading that a command may take beyond what it takes for an empty image. */
const commands: readonly {
  readonly words: readonly string[];
  readonly memory: number;
  readonly read: number;
}[] = [
  { words: ['info'], memory: 96 * MIB, read: 144 * MIB },
  // The bitmaps of an image may have 256 MiB of memory.
  { words: ['bitmap', '--list'], memory: 512 * MIB, read: 1024 * MIB },
  { words: ['check'], memory: 512 * MIB, read: 1600 * MIB },
  {
    words: ['serve', '-f', 'qcow2', '-r', '--all-bitmaps', '-k', 'SOCKET'],
    memory: 512 * MIB,
    read: 1024 * MIB,
  },
];

for (const { words, memory, read } of commands) {
  test(
    `${words[0]} ${words[1] ?? ''} of an image that lies about its bitmaps ends, and takes little`,
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      const line = words.map((word) => (word === 'SOCKET' ? folder.file('s') : word));
      // A server stops with its command, which is there to be done at once.
      const run = (path: string): Promise<Cost> =>
        costOf(...line, path, ...(words[0] === 'serve' ? ['--', 'true'] : []));
      const empty = await run(await imageIn(folder, 'empty.qcow2'));
      assert.equal(empty.status, 0, empty.stderr);
      // What the directory alone tells, info has found out.
      const tried = words[0] === 'info' ? BOMBS : BOMBS.filter(([, , { claimed }]) => !claimed).slice(0, 6);
      for (const [what, size, bombs] of tried) {
        const cost = await run(await bombed(folder, bombs, size));
        const told = `${what}: ${JSON.stringify(cost)} against ${JSON.stringify(empty)}`;
        assert.doesNotMatch(cost.stderr, /\n\s+at /, told);
        assert.ok(cost.memory - empty.memory <= memory, told);
        assert.ok(cost.read - empty.read <= read, told);
      }
    },
  );
}

test('info of a raw image does not believe what lies beside it either', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.raw');
  {
    await using file = await open(path, 'w');
    await file.truncate(MIB);
  }
  const empty = await costOf('info', path);
  const { crc32 } = await import('node:zlib');
  const entry = Buffer.alloc(24 + 100, 'x');
  const entries = Array.from({ length: 65_535 }, (_, index) => {
    const one = Buffer.from(entry);
    one.fill(0, 0, 24);
    one.writeUInt16LE(100, 0);
    one[2] = 16;
    one.writeBigUInt64LE(60n, 4);
    one.write(String(index), 24);
    return one;
  });
  const directory = Buffer.concat([Buffer.alloc(2), ...entries]);
  const header = Buffer.alloc(60);
  header.write('stratabm');
  header.writeUInt32LE(1, 8);
  header.writeBigUInt64LE(BigInt(MIB), 32);
  header.writeBigUInt64LE(60n, 40);
  header.writeUInt32LE(65_535, 48);
  for (const bytes of [directory, directory.subarray(0, 2), Buffer.alloc(MIB)]) {
    header.writeUInt32LE(crc32(bytes), 52);
    header.writeUInt32LE(crc32(header.subarray(0, 56)), 56);
    await using file = await open(`${path}.bitmaps`, 'w');
    await file.write(Buffer.concat([header, bytes]));
    await file.close();
    const cost = await costOf('info', path);
    const told = `${JSON.stringify(cost)} against ${JSON.stringify(empty)}`;
    assert.doesNotMatch(cost.stderr, /\n\s+at /, told);
    assert.ok(cost.memory - empty.memory <= 96 * MIB, told);
  }
});
