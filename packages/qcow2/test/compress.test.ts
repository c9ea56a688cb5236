import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { inflate } from '../src/compress.ts';
import { qcow2Format } from '../src/layer.ts';
import { nothingBelow, readGuest } from './guest.ts';
import { seeded } from './random.ts';

/** Bytes that compress somewhat. */
function text(length: number): Uint8Array {
  const random = seeded(length);
  return Uint8Array.from({ length }, () => 97 + random.below(6));
}

describe('inflate', () => {
  test('returns what a stream holds, of small and of large windows', async () => {
    const bytes = text(65_536);
    for (const windowBits of [9, 12, 15])
      assert.deepEqual(Uint8Array.from(await inflate(deflateRawSync(bytes, { windowBits }), 65_536)), bytes);
  });

  test('takes the start of a stream that holds more', async () => {
    const bytes = text(100_000);
    assert.deepEqual(Uint8Array.from(await inflate(deflateRawSync(bytes), 4096)), bytes.subarray(0, 4096));
  });

  test('never makes more than it was asked for of a stream that holds 64 MiB', async () => {
    const bomb = deflateRawSync(new Uint8Array(64 * 2 ** 20));
    assert.ok(bomb.length < 70_000);
    const before = process.memoryUsage().arrayBuffers;
    assert.equal((await inflate(bomb, 512)).length, 512);
    assert.ok(process.memoryUsage().arrayBuffers - before < 16 * 2 ** 20);
  });

  test('refuses a stream that holds less', async () => {
    await assert.rejects(inflate(deflateRawSync(text(4095)), 4096), {
      code: 'corrupt',
      message: /4095 bytes/,
    });
  });

  test('ignores what follows the stream', async () => {
    const stream = deflateRawSync(text(4096));
    const padded = new Uint8Array(stream.length + 700).fill(0xa5);
    padded.set(stream);
    assert.deepEqual(Uint8Array.from(await inflate(padded, 4096)), text(4096));
  });

  test('takes a stream that is cut after the last byte it was asked for', async () => {
    // Stored blocks: 5 bytes of header each, so the cut leaves the bytes whole and the stream without end.
    const stream = deflateRawSync(text(8192), { level: 0 });
    const cut = await inflate(stream.subarray(0, 5 + 4096), 4096);
    assert.deepEqual(Uint8Array.from(cut), text(8192).subarray(0, 4096));
  });

  test('refuses what is no stream', async () => {
    await assert.rejects(inflate(new Uint8Array(512).fill(0xff), 4096), { code: 'corrupt' });
    await assert.rejects(inflate(new Uint8Array(512), 4096), { code: 'corrupt' });
  });
});

describe('compressed clusters', () => {
  test('read as qemu-img reads them, in parts of any size', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const bytes = text(1_000_000 - (1_000_000 % 512));
    await writeFile(folder.file('raw'), bytes);
    for (const cluster of ['512', '4k', '64k', '2M']) {
      const path = folder.file('compressed.qcow2');
      await qemuImg.ok(
        'convert',
        '-c',
        '-O',
        'qcow2',
        '-o',
        `cluster_size=${cluster}`,
        folder.file('raw'),
        path,
      );
      const memory = new MemoryDevice();
      await memory.write(await readFile(path), 0);
      const source = await qcow2Format.openSource(memory);
      assert.deepEqual(await readGuest(source, 0, bytes.length), bytes);
      const random = seeded(3);
      for (let i = 0; i < 50; i++) {
        const at = random.below(bytes.length);
        const length = 1 + random.below(Math.min(150_000, bytes.length - at));
        assert.deepEqual(await readGuest(source, at, length), bytes.slice(at, at + length));
      }
    }
  });

  test('are inflated once for neighbouring reads', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.file('raw'), text(65_536));
    const path = folder.file('compressed.qcow2');
    await qemuImg.ok('convert', '-c', '-O', 'qcow2', folder.file('raw'), path);
    const memory = new MemoryDevice();
    await memory.write(await readFile(path), 0);
    const source = await qcow2Format.openSource(memory);
    await readGuest(source, 0, 100);
    let reads = 0;
    const { tryRead } = memory;
    memory.tryRead = (into, offset) => {
      reads++;
      return tryRead.call(memory, into, offset);
    };
    await readGuest(source, 100, 65_436);
    assert.equal(reads, 0);
  });

  test('become plain where they are written, and keep the bytes around', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const bytes = text(262_144);
    await writeFile(folder.file('raw'), bytes);
    const path = folder.file('compressed.qcow2');
    await qemuImg.ok('convert', '-c', '-O', 'qcow2', folder.file('raw'), path);
    const memory = new MemoryDevice();
    await memory.write(await readFile(path), 0);
    const layer = await qcow2Format.open(memory);
    await layer.write(new Uint8Array(70_000).fill(1), 10_000, nothingBelow(layer.size));
    bytes.fill(1, 10_000, 80_000);
    assert.deepEqual(await readGuest(layer, 0, bytes.length), bytes);
    assert.equal((await layer.map(0, 1)).kind, 'raw');
    assert.equal((await layer.map(131_072, 1)).kind, 'encoded');
    await layer[Symbol.asyncDispose]();
    await writeFile(path, memory.bytes());
    assert.equal((await qemuImg.check(path)).status, 0);
  });

  test('that are damaged fail the read and say where', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.file('raw'), text(65_536));
    const path = folder.file('compressed.qcow2');
    await qemuImg.ok('convert', '-c', '-O', 'qcow2', folder.file('raw'), path);
    const memory = new MemoryDevice();
    await memory.write(await readFile(path), 0);
    await memory.write(new Uint8Array(600).fill(0xff), 5 * 65_536);
    const source = await qcow2Format.openSource(memory);
    await assert.rejects(readGuest(source, 0, 512), { code: 'corrupt', message: /at 0x50000/ });
  });
});
