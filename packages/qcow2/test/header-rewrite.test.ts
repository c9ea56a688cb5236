import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { DiskError, isDiskError, MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { backingOf, type Header, parseHeader, readHeader } from '../src/header.ts';
import { encodeHeader } from '../src/header-encode.ts';
import { rewriteHeader } from '../src/header-rewrite.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { seeded } from './random.ts';
import { RecordingFile } from './recording.ts';

const backed = (name: string) => ({ backing: { name, format: 'qcow2' } });

async function imageWith(options: Parameters<typeof createQcow2>[1]) {
  const memory = new MemoryDevice();
  await createQcow2(memory, options);
  const base = new Uint8Array(memory.size);
  await memory.read(base, 0);
  const file = new RecordingFile(memory);
  return { file, base, header: await readHeader(file), clusterSize: options.clusterSize ?? 65_536 };
}

const renamed = (header: Header, name: string, format: string | undefined): Header => ({
  ...header,
  backingName: Buffer.from(name),
  extensions: { ...header.extensions, backingFormat: format },
});

/** What a header says, in a form that can be compared. */
const meaningOf = (bytes: Uint8Array): string => {
  const { extensions, ...header } = parseHeader(bytes);
  return JSON.stringify({ backing: backingOf({ ...header, extensions }), extensions, header }, (_, value) =>
    typeof value === 'bigint'
      ? `${value}`
      : value instanceof Uint8Array
        ? Buffer.from(value).toString('hex')
        : value,
  );
};

const cases = [
  {
    title: 'another name and no format',
    from: backed('base.qcow2'),
    to: 'other/name.raw',
    format: undefined,
  },
  { title: 'a longer name and another format', from: backed('b'), to: 'x'.repeat(1000), format: 'raw' },
  { title: 'a shorter name', from: backed('y'.repeat(900)), to: 'z', format: 'qcow2' },
  {
    title: 'version 2',
    from: { ...backed('base'), version: 2 as const },
    to: 'w'.repeat(700),
    format: 'raw',
  },
];

for (const { title, from, to, format } of cases) {
  test(`after a power cut at any moment the header is the old one or the new one: ${title}`, async () => {
    const { file, base, header, clusterSize } = await imageWith({ size: 2 ** 20, ...from });
    const next = renamed(header, to, format);
    await rewriteHeader(file, next);
    const old = meaningOf(base.subarray(0, clusterSize));
    const wanted = Buffer.alloc(clusterSize);
    encodeHeader(next).copy(wanted);
    const seen = new Set<string>();
    const random = seeded(5);
    for (const window of windowsOf(file)) {
      for (const kept of selections(window, random, () => false)) {
        const content = contentOf(base, window, kept);
        const meaning = meaningOf(content.subarray(0, clusterSize));
        assert.ok(meaning === old || meaning === meaningOf(wanted), meaning);
        seen.add(meaning);
      }
    }
    assert.equal(seen.size, 2);
    const end = new Uint8Array(clusterSize);
    await file.read(end, 0);
    assert.ok(wanted.equals(end), 'the header is packed, and nothing is left behind it');
  });
}

test('a rewrite that fails midway leaves the old header or the new one, and can be repeated', async () => {
  const { file, base, header, clusterSize } = await imageWith({ size: 2 ** 20, ...backed('b') });
  const next = renamed(header, 'n'.repeat(800), 'raw');
  const now = Buffer.alloc(clusterSize);
  for (let failing = 0; failing < 9; failing++) {
    const before = new RecordingFile(new MemoryDevice());
    await before.write(base, 0);
    let left = failing;
    before.fault = (kind) =>
      kind !== 'read' && left-- === 0 ? new DiskError('io', 'Input/output error') : undefined;
    await rewriteHeader(before, next).catch((error) => assert.ok(isDiskError(error, 'io')));
    await before.read(now, 0);
    const meaning = meaningOf(now);
    const wanted = Buffer.alloc(clusterSize);
    encodeHeader(next).copy(wanted);
    assert.ok(meaning === meaningOf(base.subarray(0, clusterSize)) || meaning === meaningOf(wanted));
    before.fault = () => undefined;
    await rewriteHeader(before, next);
    await before.read(now, 0);
    assert.equal(meaningOf(now), meaningOf(wanted));
  }
  assert.ok(file.size > 0);
});

test('a header that does not fit in its cluster is refused, and nothing changes', async () => {
  const { file, header } = await imageWith({ size: 2 ** 20, clusterSize: 1024 });
  await assert.rejects(rewriteHeader(file, renamed(header, 'n'.repeat(1000), 'raw')), (error) =>
    isDiskError(error, 'no-space'),
  );
  assert.equal(file.changes.length, 0);
});

test('QEMU reads every stage of a rewritten header', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const { file, base, header } = await imageWith({ size: 2 ** 20, ...backed('old.qcow2') });
  const next = renamed(header, `${'n'.repeat(600)}.raw`, 'raw');
  await rewriteHeader(file, next);
  const path = folder.file('image.qcow2');
  for (const window of windowsOf(file)) {
    await writeFile(path, contentOf(base, window, []));
    const info = JSON.parse(await qemuImg.ok('info', '--output=json', path)) as {
      readonly 'backing-filename': string;
    };
    assert.match(info['backing-filename'], /^(old\.qcow2|n{600}\.raw)$/);
  }
  assert.ok((await readFile(path)).length > 0);
});
