/** Made-up streams in an image: QEMU and we take and refuse the same ones, and read the same bytes. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { zstdCodec } from '../../src/codec/zstd.ts';
import { wasmEngine } from '../../src/codec/zstd-wasm.ts';
import { qcow2Format } from '../../src/layer.ts';
import { readGuest } from '../guest.ts';
import { oneClusterFile } from './one-cluster.ts';
import { encoded, frameOf as frameBy, noise, text } from './samples.ts';

const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));
const hex = (digits: string): Uint8Array => Uint8Array.from(Buffer.from(digits.replaceAll(' ', ''), 'hex'));

type Rows = Readonly<Record<string, Uint8Array>>;

async function assertAlike(
  compressionType: 'zlib' | 'zstd',
  clusterSize: number,
  rows: Rows,
): Promise<ReadonlySet<string>> {
  await using folder = await temporaryFolder();
  const [path, out] = [folder.file('image'), folder.file('out')];
  const taken = new Set<string>();
  for (const [name, stream] of Object.entries(rows))
    for (const within of [0, 77]) {
      const memory = await oneClusterFile(path, { compressionType, clusterSize, stream, within });
      const { status } = await qemuImg.run('convert', '-f', 'qcow2', '-O', 'raw', path, out);
      const source = await qcow2Format.openSource(memory);
      const ours = await readGuest(source, 0, clusterSize).catch(() => undefined);
      assert.equal(
        ours !== undefined,
        status === 0,
        `${compressionType} ${clusterSize} ${name} at ${within}`,
      );
      if (ours === undefined) continue;
      taken.add(name);
      assert.ok(Buffer.from(ours).equals(await readFile(out)), `${name}: bytes`);
    }
  return taken;
}

test('deflate streams that are too long, too short, padded or cut', requires('qemu-img'), async () => {
  for (const size of [4096, 65_536]) {
    const deflate = (bytes: Uint8Array, level = 6) => deflateRawSync(bytes, { windowBits: 12, level });
    const exact = deflate(text(size));
    const stored = deflate(text(size - 100), 0);
    const taken = await assertAlike('zlib', size, {
      exact,
      padded: join(exact, noise(600)),
      'one byte more': deflate(text(size + 1)),
      'much more': deflate(text(3 * size)),
      'one byte less': deflate(text(size - 1)),
      'half of it': deflate(text(size / 2)),
      'two streams': join(deflate(text(size / 2)), deflate(text(size / 2))),
      'cut in the middle': exact.subarray(0, exact.length / 2),
      'zeros behind stored bytes': stored,
      'no stream': noise(512),
      zeros: new Uint8Array(512),
    });
    assert.deepEqual([...taken], ['exact', 'padded', 'one byte more', 'much more']);
  }
});

test(
  'zstd streams that are too long, too short, padded, cut or in pieces',
  requires('qemu-img'),
  async () => {
    const engine = await wasmEngine();
    for (const size of [4096, 65_536]) {
      const frame = (bytes: Uint8Array): Promise<Uint8Array> => frameBy(engine, bytes);
      const exact = await frame(text(size));
      const half = await frame(text(size / 2));
      const skippable = hex('502a4d18 03000000 aabbcc');
      const empty = hex('28b52ffd 20 00 010000');
      const taken = await assertAlike('zstd', size, {
        exact,
        padded: join(exact, noise(600)),
        'one byte more': await frame(text(size + 1)),
        'much more': await frame(text(3 * size)),
        'one byte less': await frame(text(size - 1)),
        'half of it': half,
        'two halves': join(half, half),
        'two halves and more': join(half, half, half),
        'half and whole': join(half, exact),
        'cut in the middle': exact.subarray(0, exact.length / 2),
        'skippable first': join(skippable, exact),
        'skippable between': join(half, skippable, half),
        'empty between': join(empty, half, empty, half),
        'no stream': noise(512),
        zeros: new Uint8Array(512),
      });
      const expected = ['exact', 'padded', 'two halves', 'two halves and more', 'skippable first'];
      assert.deepEqual([...taken], [...expected, 'skippable between', 'empty between']);
    }
  },
);

test('zstd frames with odd headers', requires('qemu-img'), async () => {
  // 4096 bytes as a run-length block.
  const run = '038000 61';
  const taken = await assertAlike('zstd', 4096, {
    'no size': hex(`28b52ffd 00 58 ${run}`),
    'its size': hex(`28b52ffd 60 000f ${run}`),
    'another size': hex(`28b52ffd 60 010f ${run}`),
    // Of 4096 bytes of the letter a, as the zstd tool writes it with --check.
    'a checksum that is right': hex(`28b52ffd 64 000f ${run} 03162c89`),
    'a checksum that is wrong': hex(`28b52ffd 64 000f ${run} 00000000`),
    'a checksum that is missing': hex(`28b52ffd 64 000f ${run}`).subarray(0, 11),
    'a reserved bit': hex(`28b52ffd 68 000f ${run}`),
    'an unused bit': hex(`28b52ffd 70 000f ${run}`),
    'a dictionary': hex(`28b52ffd 61 07 000f ${run}`),
    'dictionary number 0': hex(`28b52ffd 61 00 000f ${run}`),
    'a window of 128 MiB': hex(`28b52ffd 00 88 ${run}`),
    'a window of 144 MiB': hex(`28b52ffd 00 89 ${run}`),
    'a last block of nothing': hex('28b52ffd 00 58 028000 61 010000'),
    'no last block': hex('28b52ffd 00 58 028000 61'),
  });
  assert.ok(taken.has('no size') && taken.has('a checksum that is right') && !taken.has('a dictionary'));
});

test('streams of the codec are read by QEMU', requires('qemu-img'), async () => {
  const codec = await zstdCodec();
  for (const size of [512, 4096, 65_536, 2 ** 21])
    for (const level of [undefined, 1, 19]) {
      const stream = await encoded(codec, text(size), level);
      assert.ok(stream);
      assert.equal((await assertAlike('zstd', size, { stream })).size, 1);
    }
});
