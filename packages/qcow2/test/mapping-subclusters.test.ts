import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, run, temporaryFolder } from '@strata/testkit';
import { geometryOf, hostOffset } from '../src/geometry.ts';
import { qcow2Format } from '../src/layer.ts';
import { mapSubclusters } from '../src/mapping-subclusters.ts';
import type { ClusterTable } from '../src/tables.ts';
import { openHost } from './host.ts';
import { poke } from './refusals.ts';

const geometry = geometryOf({ version: 3, clusterBits: 16, refcountOrder: 4, incompatible: 16n });
const CLUSTER = 65_536;
const SUB = 2048;
const file = new MemoryDevice();
const COPIED = 1n << 63n;

/** What of the first entries of a table, two words each, is mapped at `offset`. */
function map(words: readonly (readonly [bigint, bigint])[], offset: number, limit = 2 ** 40) {
  const bytes = new Uint8Array(CLUSTER);
  const view = new DataView(bytes.buffer);
  for (const [i, [first, second]] of words.entries()) {
    view.setBigUint64(i * 16, first);
    view.setBigUint64(i * 16 + 8, second);
  }
  const at = hostOffset(0x40000);
  const table: ClusterTable = { index: 0, at, bytes, view, mayChange: false, dirtyFrom: 0, dirtyTo: 0 };
  return mapSubclusters({ geometry, file, sparse: false }, table, offset, limit);
}

const data = (cluster: number): bigint => COPIED | BigInt(cluster * CLUSTER);
const raw = (at: number, length: number) => ({ kind: 'raw', device: file, at, length, sparse: false });

test('a run ends with its subclusters, or with the limit', () => {
  const words = [[data(5), 0x0000_00f0_0000_000fn]] as const;
  assert.deepEqual(map(words, 0), raw(5 * CLUSTER, 4 * SUB));
  assert.deepEqual(map(words, 3 * SUB + 100), raw(5 * CLUSTER + 3 * SUB + 100, SUB - 100));
  assert.deepEqual(map(words, 0, 100), raw(5 * CLUSTER, 100));
  assert.deepEqual(map(words, 5 * SUB), { kind: 'zero', length: 3 * SUB, at: 5 * CLUSTER + 5 * SUB });
  const room = { kind: 'below', length: 24 * SUB, at: 5 * CLUSTER + 8 * SUB };
  assert.deepEqual(map(words, 8 * SUB, CLUSTER), room, 'room in the cluster that is not used');
});

test('a run goes on into clusters that follow in the file, and no further', () => {
  const all = 0x0000_0000_ffff_ffffn;
  const words = [
    [data(5), 0xffff_0000n],
    [data(6), all],
    [data(7), 3n],
  ] as const;
  assert.deepEqual(map(words, 20 * SUB), raw(5 * CLUSTER + 20 * SUB, 12 * SUB + CLUSTER + 2 * SUB));
  const apart = [words[0], [data(8), all], words[2]] as const;
  assert.deepEqual(map(apart, 20 * SUB), raw(5 * CLUSTER + 20 * SUB, 12 * SUB));
});

test('zeros and nothing without a place have none', () => {
  const zeros = [
    [0n, 0xffff_0000_0000_0000n],
    [0n, 0xffff_ffff_0000_0000n],
  ] as const;
  assert.deepEqual(map(zeros, 0), { kind: 'below', length: 16 * SUB });
  assert.deepEqual(map(zeros, 16 * SUB), { kind: 'zero', length: 16 * SUB + CLUSTER, at: undefined });
});

test('compressed clusters and corrupt entries', () => {
  const compressed = (1n << 62n) | 0x5000n;
  const words = [
    [compressed, 0n],
    [compressed, 0n],
    [data(5), 0x1_0000_0001n],
  ] as const;
  assert.deepEqual(map(words, 100), { kind: 'encoded', length: 2 * CLUSTER - 100 });
  assert.equal(map(words, 2 * CLUSTER), undefined);
});

test(
  'maps that contradict themselves end a read as they end QEMU’s, and nothing else',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, 4 * CLUSTER, { options: { extended_l2: 'on' } });
    await qemuIo(path, ['write -P 1 0 64k', 'write -P 2 64k 64k']);
    await using host = await openHost(path);
    // The L2 table is the first cluster behind the L1 table.
    await poke(path, [4 * CLUSTER + 8, '0000000100000001']);
    const read = ['-c', 'read 0 2k', '-c', 'read -P 2 64k 64k'];
    const { stderr, stdout } = await run('qemu-io', ['-r', '-f', 'qcow2', ...read, path]);
    const source = await qcow2Format.openSource(host);
    const [, sentence] = /Image is corrupt: (.*?); further/.exec(stderr + stdout) ?? [];
    assert.ok(sentence, stderr + stdout);
    await assert.rejects(source.map(0, 2048), { code: 'corrupt', message: sentence });
    assert.equal((await source.map(CLUSTER, CLUSTER)).kind, 'raw');
  },
);
