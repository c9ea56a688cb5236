/** Images made to keep `info` busy: it takes little memory and reads little, whatever they claim. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requires, temporaryFolder } from '@strata/testkit';
import { costOf, extension, half, imageIn, MIB, patched, word } from './bomb-images.ts';

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

const BOMBS: readonly (readonly [what: string, ...patches: (readonly [number, Uint8Array])[]])[] = [
  ['65,536 snapshots', ...snapshots(65_536, snapshotTable(65_536, 10, 900))],
  ['snapshots whose names take 60 MiB', ...snapshots(480, snapshotTable(480, 65_535, 65_535))],
  ['snapshots behind the end of the file', [60, half(65_536)], [64, word(2n ** 40n)]],
  ['snapshots of zeros', [60, half(65_536)], [64, word(BigInt(MIB))], [65 * MIB, Buffer.alloc(1)]],
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
