import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Geometry, geometryOf } from '../src/geometry.ts';
import {
  EntryForm,
  endOfSubclusters,
  lowestSubcluster,
  placeOf,
  readL2Entry,
  SubclusterState,
  storeL2Entry,
  subclusterMask,
  subclusterRun,
  subclusterState,
  whyCorruptEntry,
} from '../src/l2-entry.ts';

const of = (incompatible: bigint): Geometry =>
  geometryOf({ version: 3, clusterBits: 16, refcountOrder: 4, incompatible });
const STANDARD = of(0n);
const EXTENDED = of(16n);
const EXTERNAL = of(4n);

/** A table with one entry, at index 1, of 64-bit words. */
function tableWith(geometry: Geometry, ...words: readonly bigint[]): DataView {
  const table = new DataView(new ArrayBuffer(2 * geometry.l2EntrySize));
  words.forEach((word, i) => {
    table.setBigUint64(geometry.l2EntrySize + i * 8, word);
  });
  return table;
}

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const AT = 0x50000n;

test('a standard entry is one subcluster', () => {
  const read = (word: bigint) => {
    const { form, zeros, allocated } = readL2Entry(STANDARD, tableWith(STANDARD, word), 1);
    return { form, zeros, allocated };
  };
  assert.deepEqual(read(0n), { form: EntryForm.empty, zeros: 0, allocated: 0 });
  assert.deepEqual(read(1n), { form: EntryForm.empty, zeros: 1, allocated: 0 });
  assert.deepEqual(read(COPIED | AT), { form: EntryForm.placed, zeros: 0, allocated: 1 });
  assert.deepEqual(read(COPIED | AT | 1n), { form: EntryForm.placed, zeros: 1, allocated: 0 });
  assert.deepEqual(read(COMPRESSED | 0x1234n), { form: EntryForm.compressed, zeros: 0, allocated: 0 });
  assert.deepEqual(read(AT | 0x200n), { form: EntryForm.corrupt, zeros: 0, allocated: 0 });
});

test('the second word of an extended entry has the zero bits above and the allocated bits below', () => {
  const table = tableWith(EXTENDED, COPIED | AT, 0x8000_0000_0000_0003n);
  const entry = readL2Entry(EXTENDED, table, 1);
  assert.deepEqual([entry.form, entry.zeros, entry.allocated], [EntryForm.placed, 0x8000_0000, 3]);
  assert.equal(placeOf(entry), 0x50000);
  const states = [0, 1, 2, 31].map((index) => subclusterState(entry, index));
  const { data, unallocated, zero } = SubclusterState;
  assert.deepEqual(states, [data, data, unallocated, zero]);
  assert.deepEqual(
    [0, 1, 2, 31].map((index) => subclusterRun(entry, index, 32)),
    [2, 1, 29, 1],
  );
});

test('what the specification forbids of the maps is corrupt, and QEMU’s word for it', () => {
  const formOf = (geometry: Geometry, ...words: bigint[]) => {
    const table = tableWith(geometry, ...words);
    const { form } = readL2Entry(geometry, table, 1);
    return form === EntryForm.corrupt ? whyCorruptEntry(geometry, table, 1) : form;
  };
  const invalid = 'Invalid cluster entry found ';
  assert.equal(formOf(EXTENDED, COPIED | AT, 0x0000_0001_0000_0001n), invalid, 'zero and allocated');
  assert.equal(formOf(EXTENDED, 0n, 1n), invalid, 'allocated without a place');
  assert.equal(formOf(EXTENDED, 0n, 0xffff_ffff_0000_0000n), EntryForm.empty);
  assert.equal(formOf(EXTENDED, COPIED | AT | 1n, 1n), EntryForm.placed, 'bit 0 means nothing here');
  assert.equal(formOf(EXTENDED, COMPRESSED | 0x1234n, 5n), EntryForm.compressed, 'the maps are ignored');
  const unaligned = formOf(EXTENDED, COPIED | AT | 0x200n, 1n);
  assert.equal(unaligned, 'Cluster allocation offset 0x50200 unaligned');
});

test('in a data file offset 0 is a place if bit 63 is set, and nothing is compressed', () => {
  const formOf = (word: bigint) => readL2Entry(EXTERNAL, tableWith(EXTERNAL, word), 1).form;
  assert.equal(formOf(COPIED), EntryForm.placed);
  assert.equal(formOf(0n), EntryForm.empty);
  assert.equal(formOf(COPIED | 1n), EntryForm.empty, 'a zero cluster without a place, as QEMU has it');
  assert.equal(formOf(COMPRESSED | 0x1234n), EntryForm.corrupt);
  assert.equal(readL2Entry(STANDARD, tableWith(STANDARD, COPIED), 1).form, EntryForm.empty);
});

test('what is stored is read again', () => {
  const entry = { form: EntryForm.placed, high: 0x8000_0000, low: 0x50000, zeros: 0xf000_0000, allocated: 7 };
  const table = tableWith(EXTENDED);
  storeL2Entry(EXTENDED, table, 1, entry);
  assert.deepEqual(readL2Entry(EXTENDED, table, 1), entry);
  assert.equal(table.getBigUint64(0), 0n, 'the neighbour is left alone');
  const standard = tableWith(STANDARD);
  storeL2Entry(STANDARD, standard, 1, { high: 0x8000_0000, low: 0x50001, zeros: 0, allocated: 1 });
  assert.equal(standard.getBigUint64(8), COPIED | AT);
  storeL2Entry(STANDARD, standard, 1, { high: 0, low: 0, zeros: 1, allocated: 0 });
  assert.equal(standard.getBigUint64(8), 1n);
});

test('masks and the ends of maps reach from bit 0 to bit 31', () => {
  assert.equal(subclusterMask(0, 32), 0xffff_ffff);
  assert.equal(subclusterMask(31, 32), 0x8000_0000);
  assert.equal(subclusterMask(3, 5), 0b11000);
  assert.equal(subclusterMask(5, 5), 0);
  assert.deepEqual([0, 1, 0x8000_0000, 0b1100].map(lowestSubcluster), [32, 0, 31, 2]);
  assert.deepEqual([0, 1, 0x8000_0000, 0b1100].map(endOfSubclusters), [0, 1, 32, 4]);
});
