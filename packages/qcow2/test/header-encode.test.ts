import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { noExtensions, qemuFeatureNames } from '../src/extensions.ts';
import { backingOf, type Header, parseHeader } from '../src/header.ts';
import {
  encodeHeader,
  featuresPatch,
  l1Patch,
  refcountTablePatch,
  sizePatch,
  snapshotsPatch,
} from '../src/header-encode.ts';
import { seeded } from './random.ts';
import { poke } from './refusals.ts';

test(
  'a rewritten header is byte for byte the one that QEMU rewrites',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    for (const options of [{ compat: '0.10', cluster_size: 512 }, { compat: '1.1', refcount_bits: 8 }, {}]) {
      const backing = { name: folder.file('base'), format: 'raw' };
      await qemuImg.create(backing.name, '64M', { format: 'raw' });
      await qemuImg.create(path, '64M', { backing, options });
      await qemuIo(path, ['write 0 512']);
      if (!('compat' in options)) await qemuImg.ok('bitmap', '--add', path, 'b0');
      const bytes = await readFile(path);
      const clusterSize = 2 ** parseHeader(bytes).clusterBits;
      const encoded = Buffer.alloc(clusterSize);
      encodeHeader(parseHeader(bytes)).copy(encoded);
      assert.ok(encoded.equals(bytes.subarray(0, clusterSize)), JSON.stringify(options));
    }
  },
);

test(
  'what a header holds that we do not know is kept byte for byte',
  requires('qemu-img', 'qemu-io'),
  async () => {
    const random = seeded(7);
    const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => 1 + random.below(255));
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '64M');
    const plain = parseHeader(await readFile(path));
    const header: Header = {
      ...plain,
      headerLength: 136,
      unknownFields: bytes(24),
      compatible: 1n << 40n,
      autoclear: 1n << 63n,
      backingName: Uint8Array.of(0x62, 0xff, 0xc3, 0x28),
      extensions: {
        ...noExtensions,
        backingFormat: 'qcow2',
        featureNames: Uint8Array.from(qemuFeatureNames()),
        unknown: [
          { type: 0x12345678, data: bytes(13) },
          { type: 0xfedcba98, data: bytes(0) },
        ],
      },
    };
    const encoded = encodeHeader(header);
    assert.deepEqual(parseHeader(encoded), header);
    assert.deepEqual(encodeHeader(parseHeader(encoded)), encoded);
    assert.equal(backingOf(header)?.format, 'qcow2');
    await poke(path, [0, encoded.toString('hex')]);
    const told = JSON.parse(await qemuImg.ok('info', '-f', 'qcow2', '--output=json', path)) as object;
    assert.ok('backing-filename-format' in told);
  },
);

test('a patch changes what it names, and lies inside one sector', () => {
  const file = new Uint8Array(512);
  const plain = encodeHeader(parseHeader(headerOf()));
  file.set(plain.subarray(0, 512));
  const patches = [
    sizePatch(12_345 * 512),
    l1Patch(7, 0x50000),
    refcountTablePatch(0x60000, 2),
    snapshotsPatch(3, 0x70000),
    featuresPatch({ incompatible: 1n, compatible: 1n, autoclear: 1n << 62n }),
  ];
  for (const { offset, bytes } of patches) {
    assert.equal(Math.floor(offset / 512), Math.floor((offset + bytes.length - 1) / 512));
    file.set(bytes, offset);
  }
  const { size, l1Entries, l1At, refcountTableAt, refcountTableClusters, ...rest } = parseHeader(file);
  assert.deepEqual([size, l1Entries, l1At], [12_345 * 512, 7, 0x50000]);
  assert.deepEqual([refcountTableAt, refcountTableClusters], [0x60000, 2]);
  assert.deepEqual([rest.snapshotCount, rest.snapshotsAt], [3, 0x70000]);
  assert.deepEqual([rest.incompatible, rest.compatible, rest.autoclear], [1n, 1n, 1n << 62n]);
});

/** The fields of a version 3 header of a disk of 1 MiB, as "Header" lays them out. */
function headerOf(): Buffer {
  const bytes = Buffer.alloc(65_536);
  const fields = '514649fb 00000003 0000000000000000 00000000 00000010 0000000000100000 00000000 00000001';
  const tables = '0000000000030000 0000000000010000 00000001 00000000 0000000000000000';
  const version3 = '0000000000000000 0000000000000000 0000000000000000 00000004 00000070';
  bytes.write(`${fields} ${tables} ${version3}`.replaceAll(' ', ''), 'hex');
  return bytes;
}
