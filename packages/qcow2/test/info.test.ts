import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { type Qcow2Info, readInfo } from '../src/info.ts';
import { createEncrypted } from './encrypted-image.ts';
import { counted, openHost } from './host.ts';

/** The part of `qemu-img info --output=json` that an image itself decides. */
interface QemuInfo {
  'virtual-size': number;
  'cluster-size': number;
  'dirty-flag': boolean;
  encrypted?: boolean;
  'backing-filename'?: string;
  'backing-filename-format'?: string;
  snapshots?: Record<string, unknown>[];
  'format-specific': { data: Record<string, unknown> };
}

async function qemuInfo(path: string): Promise<QemuInfo> {
  return JSON.parse(await qemuImg.ok('info', '-f', 'qcow2', '--output=json', path)) as QemuInfo;
}

/** Our facts in the names of qemu-img; what a later issue prints of LUKS is left out. */
function asQemuPrints(info: Qcow2Info): QemuInfo {
  const bitmaps = info.bitmaps.map(({ name, granularity, inUse, auto }) => ({
    flags: [...(inUse ? ['in-use'] : []), ...(auto ? ['auto'] : [])],
    name,
    granularity,
  }));
  const data: Record<string, unknown> = {
    compat: info.version === 2 ? '0.10' : '1.1',
    'compression-type': info.compressionType,
    'refcount-bits': info.refcountBits,
  };
  if (info.version === 3) {
    data['lazy-refcounts'] = info.lazyRefcounts;
    data['corrupt'] = info.corrupt;
    data['extended-l2'] = info.extendedL2;
  }
  if (bitmaps.length > 0) data['bitmaps'] = bitmaps;
  if (info.dataFile?.name !== undefined) data['data-file'] = info.dataFile.name;
  if (info.dataFile !== undefined) data['data-file-raw'] = info.dataFile.raw;
  if (info.encryption !== undefined) data['encrypt'] = { format: info.encryption };
  const snapshots = info.snapshots.map((snapshot) => ({
    id: snapshot.id,
    name: snapshot.name,
    'vm-state-size': snapshot.vmStateSize,
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': snapshot.clockSeconds,
    'vm-clock-nsec': snapshot.clockNanoseconds,
    ...(snapshot.icount === undefined ? {} : { icount: snapshot.icount }),
  }));
  return {
    'virtual-size': info.size,
    'cluster-size': info.clusterSize,
    'dirty-flag': info.dirty,
    ...(info.encryption === undefined ? {} : { encrypted: true }),
    ...(info.backing === undefined ? {} : { 'backing-filename': info.backing.name }),
    ...(info.backing?.format === undefined ? {} : { 'backing-filename-format': info.backing.format }),
    ...(snapshots.length > 0 ? { snapshots } : {}),
    'format-specific': { data },
  };
}

async function assertSame(path: string): Promise<Qcow2Info> {
  const theirs = await qemuInfo(path);
  const encrypt = theirs['format-specific'].data['encrypt'] as { format: string } | undefined;
  if (encrypt !== undefined) theirs['format-specific'].data['encrypt'] = { format: encrypt.format };
  const { data } = theirs['format-specific'];
  const elsewhere = ['filename', 'format', 'actual-size', 'full-backing-filename', 'children'];
  const shown = Object.fromEntries(Object.entries(theirs).filter(([key]) => !elsewhere.includes(key)));
  const info = await readFacts(path);
  assert.deepEqual(asQemuPrints(info), { ...shown, 'format-specific': { data } });
  return info;
}

async function readFacts(path: string): Promise<Qcow2Info> {
  await using file = await openHost(path);
  return await readInfo(file);
}

async function poke(path: string, at: number, hex: string): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(Buffer.from(hex, 'hex'), 0, undefined, at);
}

test('info says of plain images what qemu-img says', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const rows: readonly (readonly [size: string, options: string])[] = [
    ['1M', 'compat=1.1'],
    ['0', 'compat=0.10,cluster_size=512'],
    ['5T', 'compat=1.1,cluster_size=2M,refcount_bits=64,lazy_refcounts=on'],
    ['77k', 'compat=1.1,cluster_size=4k,refcount_bits=1'],
    ['1M', 'compression_type=zstd'],
    ['1M', 'extended_l2=on'],
    ['1M', `data_file=${folder.file('data one')}`],
    ['1M', `data_file=${folder.file('data two')},data_file_raw=on`],
  ];
  for (const [index, [size, options]] of rows.entries()) {
    const path = folder.file(`${index}.qcow2`);
    await qemuImg.ok('create', '-q', '-f', 'qcow2', '-o', options, path, size);
    await assertSame(path);
  }
});

test('info tells the backing file as it is recorded, and opens nothing', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('top.qcow2');
  for (const [name, format] of [
    ['json:{"driver":"nbd"}', 'raw'],
    ['no/such/file', 'qcow2'],
  ] as const) {
    await qemuImg.ok('create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', format, path, '1M');
    const info = await readFacts(path);
    assert.deepEqual(info.backing, { name, format });
  }
});

test('info lists snapshots as qemu-img does', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  for (const compat of ['0.10', '1.1']) {
    await qemuImg.create(path, '8M', { options: { compat } });
    for (const name of ['first', 'zweiter Stand ü', 'x'.repeat(200)]) {
      await qemuImg.ok('snapshot', '-c', name, path);
      await qemuIo(path, ['write 1M 64k']);
    }
    const info = await assertSame(path);
    assert.equal(info.snapshots.length, 3);
  }
});

test('info lists bitmaps and their flags as qemu-img does', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, '8M');
  await qemuImg.ok('bitmap', '--add', '-g', '512', path, 'fine');
  await qemuImg.ok('bitmap', '--add', '--disable', '-g', '2G', path, 'coarse and off');
  const info = await assertSame(path);
  assert.deepEqual(
    info.bitmaps.map(({ auto }) => auto),
    [true, false],
  );
  const { tableAt } = info.bitmaps[0] ?? { tableAt: 0 };
  assert.ok(tableAt > 0);
  await poke(path, 88, '0000000000000000');
  const stale = await readFacts(path);
  assert.deepEqual([stale.bitmaps, stale.staleBitmaps], [[], true]);
});

test('info tells encryption, dirty and corrupt', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  for (const format of ['luks', 'aes'] as const) {
    await createEncrypted(path, format);
    const info = await assertSame(path);
    assert.equal(info.encryption, format);
  }
  await qemuImg.create(path, '1M');
  await poke(path, 72, '0000000000000001');
  assert.equal((await assertSame(path)).dirty, true);
  await poke(path, 72, '0000000000000002');
  assert.equal((await assertSame(path)).corrupt, true);
});

test('info reads a few kilobytes, however much the bitmaps stand for', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, '1T');
  for (let i = 0; i < 8; i++) await qemuImg.ok('bitmap', '--add', '-g', '64k', path, `b${i}`);
  await using host = await openHost(path);
  const file = counted(host);
  assert.equal((await readInfo(file)).bitmaps.length, 8);
  assert.ok(file.bytesRead < 256 * 1024, `${file.bytesRead} bytes`);
});
