import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { qcow2Format } from '../src/layer.ts';
import { text } from './codec/samples.ts';
import { nothingBelow, readGuest } from './guest.ts';
import { seeded } from './random.ts';

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
