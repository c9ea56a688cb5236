import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ClusterKind,
  clusterKind,
  compressedEnd,
  describeBitmapTable,
  describeCluster,
  describeL1,
  describeRefcountTable,
  encodeCompressedHigh,
  encodeHigh,
  encodeLow,
  encodeZeroLow,
  entryHigh,
  entryLow,
  readRefcount,
  reservedBitsInL1,
  reservedBitsInL2,
  setEntry,
  tableOf,
  writeRefcount,
} from '../src/entries.ts';
import { type Geometry, geometryOf } from '../src/geometry.ts';
import { type Random, seeded } from './random.ts';

const CLUSTER_BITS = [9, 12, 16, 21];
const WORDS = 10_000;
const geometries = CLUSTER_BITS.flatMap((clusterBits) =>
  ([2, 3] as const).map((version) =>
    geometryOf({ version, clusterBits, refcountOrder: 4, incompatible: 0n }),
  ),
);

/** Words as images hold them and as they do not: few bits, many bits, real offsets with flags. */
function randomWord(random: Random, clusterBits: number): bigint {
  const any = (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));
  switch (random.below(5)) {
    case 0:
      return any;
    case 1:
      return any & (1n << BigInt(random.below(64)));
    case 2:
      return (any % (1n << 40n)) & ~((1n << BigInt(clusterBits)) - 1n);
    case 3:
      return ((any % (1n << 56n)) & ~((1n << BigInt(clusterBits)) - 1n)) | (any & (1n << 63n)) | (any & 1n);
    default:
      return (any % (1n << 45n)) | (1n << 62n) | (any & (3n << 60n));
  }
}

const bits = (word: bigint, from: number, to: number): bigint =>
  (word >> BigInt(from)) & ((1n << BigInt(to - from + 1)) - 1n);
const halves = (word: bigint): [high: number, low: number] => [
  Number(word >> 32n),
  Number(word & 0xffff_ffffn),
];
const fits = (at: bigint): boolean => at <= BigInt(Number.MAX_SAFE_INTEGER);

/** "Cluster mapping", written down once more with BigInt, and with what QEMU makes of odd entries. */
function clusterByTheSpec(g: Geometry, word: bigint): unknown {
  if (bits(word, 62, 62) === 1n) {
    const x = 62 - (g.clusterBits - 8);
    const at = bits(word, 0, x - 1);
    const sectors = bits(word, x, 61) + 1n;
    if (!fits(at)) return 'corrupt';
    return { kind: 'compressed', at: Number(at), maxLength: Number(sectors * 512n - (at % 512n)) };
  }
  const at = bits(word, 9, 55) << 9n;
  const zero = bits(word, 0, 0) === 1n;
  const exclusive = bits(word, 63, 63) === 1n;
  if (zero && g.version === 2) return 'corrupt';
  if (at === 0n) return zero ? { kind: 'zero', at: undefined, exclusive: false } : { kind: 'unallocated' };
  if (at % BigInt(g.clusterSize) !== 0n || !fits(at)) return 'corrupt';
  return { kind: zero ? 'zero' : 'data', at: Number(at), exclusive };
}

test('an L2 entry of random bits means what the specification says, at every cluster size', () => {
  const random = seeded(1);
  const seen = new Set<unknown>();
  for (const g of geometries) {
    for (let i = 0; i < WORDS; i++) {
      const word = randomWord(random, g.clusterBits);
      const [high, low] = halves(word);
      const cluster = describeCluster(g, high, low);
      const expected = clusterByTheSpec(g, word);
      const told = `${g.clusterBits} bits, version ${g.version}, ${word.toString(16)}`;
      if (expected === 'corrupt') assert.equal(cluster.kind, 'corrupt', told);
      else assert.deepEqual(cluster, expected, told);
      const kind = clusterKind(g, high, low);
      const isZero = kind === ClusterKind.zero || kind === ClusterKind.zeroAllocated;
      assert.equal(isZero, cluster.kind === 'zero', told);
      seen.add(kind);
    }
  }
  assert.equal(seen.size, 6, 'every kind was drawn');
});

test('a compressed offset past 2^53 in an image of 512-byte clusters is corrupt, not rounded', () => {
  const g = geometryOf({ version: 3, clusterBits: 9, refcountOrder: 4, incompatible: 0n });
  const [high, low] = halves((1n << 62n) | (1n << 53n) | 1n);
  assert.equal(describeCluster(g, high, low).kind, 'corrupt');
  const [highest, lowest] = halves((1n << 62n) | ((1n << 53n) - 1n));
  assert.deepEqual(describeCluster(g, highest, lowest), {
    kind: 'compressed',
    at: Number.MAX_SAFE_INTEGER,
    maxLength: 1,
  });
});

test('an L1 entry of random bits means what the specification says', () => {
  const random = seeded(2);
  for (const g of geometries) {
    for (let i = 0; i < WORDS; i++) {
      const word = randomWord(random, g.clusterBits);
      const [high, low] = halves(word);
      const entry = describeL1(g, high, low);
      const at = bits(word, 9, 55) << 9n;
      const told = `${g.clusterBits} bits, ${word.toString(16)}`;
      if (at === 0n) assert.deepEqual(entry, { kind: 'unallocated' }, told);
      else if (at % BigInt(g.clusterSize) !== 0n || !fits(at)) assert.equal(entry.kind, 'corrupt', told);
      else assert.deepEqual(entry, { kind: 'table', at: Number(at), exclusive: word >> 63n === 1n }, told);
      assert.equal(reservedBitsInL1(high, low), bits(word, 0, 8) !== 0n || bits(word, 56, 62) !== 0n, told);
      assert.equal(reservedBitsInL2(high, low), bits(word, 1, 8) !== 0n || bits(word, 56, 61) !== 0n, told);
    }
  }
});

test('a refcount table entry has an offset of all the bits 9 to 63', () => {
  const random = seeded(3);
  for (const g of geometries) {
    for (let i = 0; i < WORDS; i++) {
      const word = randomWord(random, g.clusterBits);
      const entry = describeRefcountTable(g, ...halves(word));
      const at = bits(word, 9, 63) << 9n;
      const told = `${g.clusterBits} bits, ${word.toString(16)}`;
      if (at === 0n) assert.deepEqual(entry, { kind: 'absent' }, told);
      else if (at % BigInt(g.clusterSize) !== 0n || !fits(at)) assert.equal(entry.kind, 'corrupt', told);
      else assert.deepEqual(entry, { kind: 'block', at: Number(at) }, told);
    }
  }
});

test('a bitmap table entry with a reserved bit, or with an offset and bit 0, is corrupt', () => {
  const random = seeded(4);
  for (const g of geometries) {
    for (let i = 0; i < WORDS; i++) {
      const word = randomWord(random, g.clusterBits);
      const entry = describeBitmapTable(g, ...halves(word));
      const at = bits(word, 9, 55) << 9n;
      const one = (word & 1n) === 1n;
      const told = `${g.clusterBits} bits, ${word.toString(16)}`;
      const reserved = bits(word, 1, 8) !== 0n || bits(word, 56, 63) !== 0n;
      if (reserved || (at !== 0n && (one || at % BigInt(g.clusterSize) !== 0n || !fits(at))))
        assert.equal(entry.kind, 'corrupt', told);
      else if (at === 0n) assert.deepEqual(entry, { kind: one ? 'ones' : 'zeros' }, told);
      else assert.deepEqual(entry, { kind: 'stored', at: Number(at) }, told);
    }
  }
});

test('what is encoded is decoded to the same, up to the last offset that an entry can hold', () => {
  const random = seeded(5);
  const table = tableOf(new Uint8Array(8 * 7));
  for (const g of geometries.filter(({ version }) => version === 3)) {
    for (let i = 0; i < 1000; i++) {
      const index = random.below(7);
      const at = Math.max(1, Math.floor(random.below(2 ** 53) / g.clusterSize)) * g.clusterSize;
      const exclusive = random.below(2) === 1;
      setEntry(table, index, encodeHigh(at, exclusive), encodeLow(at));
      const read = (): [number, number] => [entryHigh(table, index), entryLow(table, index)];
      assert.deepEqual(describeCluster(g, ...read()), { kind: 'data', at, exclusive });
      assert.deepEqual(describeL1(g, ...read()), { kind: 'table', at, exclusive });
      setEntry(table, index, encodeHigh(at, exclusive), encodeZeroLow(at));
      assert.deepEqual(describeCluster(g, ...read()), { kind: 'zero', at, exclusive });

      const length = 1 + random.below(g.clusterSize - 1);
      const start = random.below(Math.min(2 ** 53, compressedEnd(g)) - length);
      setEntry(table, index, encodeCompressedHigh(g, start, length), encodeLow(start));
      const cluster = describeCluster(g, ...read());
      assert.ok(cluster.kind === 'compressed' && cluster.at === start, `${start}+${length}`);
      assert.equal(Math.ceil((start + length) / 512) * 512, start + cluster.maxLength);
    }
  }
});

test('refcounts of every width read back as a BigInt oracle packs them, least significant bit first', () => {
  const random = seeded(6);
  for (let order = 0; order <= 6; order++) {
    const width = 2 ** order;
    const count = 64;
    const bytes = new Uint8Array((count * width) / 8);
    const block = tableOf(bytes);
    const oracle = Array.from({ length: count }, () => 0);
    for (let i = 0; i < 2000; i++) {
      const index = random.below(count);
      const value = random.below(Math.min(2 ** width, 2 ** 53));
      writeRefcount(block, index, order, value);
      oracle[index] = value;
    }
    const packed = new Uint8Array(bytes.length);
    oracle.forEach((value, index) => {
      if (width < 8) {
        const bit = index * width;
        packed[bit >> 3] = (packed[bit >> 3] ?? 0) | (value << (bit & 7));
      } else {
        const hex = BigInt(value)
          .toString(16)
          .padStart(width / 4, '0');
        packed.set(Buffer.from(hex, 'hex'), (index * width) / 8);
      }
      assert.equal(readRefcount(block, index, order), value, `width ${width}, entry ${index}`);
    });
    assert.deepEqual(bytes, packed, `width ${width}`);
  }
});

test('a refcount above 2^53 - 1 is infinite', () => {
  const block = tableOf(Buffer.from('0020000000000000001fffffffffffff', 'hex'));
  assert.equal(readRefcount(block, 0, 6), Number.POSITIVE_INFINITY);
  assert.equal(readRefcount(block, 1, 6), Number.MAX_SAFE_INTEGER);
});
