/** Our images under QEMU, QEMU's under us. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { type MemoryDevice, openFile } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { qcow2Format } from '../src/layer.ts';
import { apply, mirror, nothingBelow, randomChange, readGuest } from './guest.ts';
import { seeded } from './random.ts';

interface Shape {
  readonly compat: '0.10' | '1.1';
  readonly cluster: number;
  readonly bits: number;
}

function* grid(): Generator<Shape> {
  for (const cluster of [512, 4096, 65_536, 2 ** 21]) {
    yield { compat: '0.10', cluster, bits: 16 };
    for (const bits of [1, 8, 16, 64]) yield { compat: '1.1', cluster, bits };
  }
}

const options = ({ compat, cluster, bits }: Shape) =>
  compat === '0.10'
    ? { compat, cluster_size: cluster }
    : { compat, cluster_size: cluster, refcount_bits: bits };

const diskSize = (cluster: number): number =>
  Math.min(64 * cluster, 2 ** 20) + Math.max(cluster, 8192) * 5 + 512;

for (const backed of [false, true]) {
  const title = backed ? 'overlay' : 'image';
  test(
    `qemu-img finds an ${title} that we wrote clean, without leaks, and of our content`,
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      let seed = backed ? 1000 : 0;
      for (const shape of grid()) {
        const random = seeded(++seed);
        const size = diskSize(shape.cluster);
        const name = JSON.stringify({ ...shape, seed });
        const path = folder.file('ours.qcow2');
        const backingBytes = new Uint8Array(size);
        for (let at = 0; at < size; at += 4096) if (random.below(2)) backingBytes.fill(0x77, at, at + 4096);
        await writeFile(folder.file('back.raw'), backingBytes);
        const backing = { name: folder.file('back.raw'), format: 'raw' };
        await qemuImg.create(path, size, { options: options(shape), ...(backed ? { backing } : {}) });

        const oracle = backed ? backingBytes.slice() : new Uint8Array(size);
        const below = nothingBelow(size) as MemoryDevice;
        if (backed) await below.write(backingBytes, 0);
        {
          await using file = await openFile(path, { access: 'write' });
          const layer = await qcow2Format.open(file);
          for (let step = 0; step < 60; step++) {
            const change = randomChange(random, size, Math.min(shape.cluster, 65_536));
            await apply(layer, change, below);
            const seen = change.kind === 'discard' ? await readGuest(layer, 0, size, below) : oracle;
            mirror(oracle, change, seen);
            if (step % 10 === 0)
              assert.ok(
                Buffer.from(await readGuest(layer, 0, size, below)).equals(oracle),
                `${name} step ${step}`,
              );
          }
          await layer[Symbol.asyncDispose]();
        }
        const { status, report, stderr } = await qemuImg.check(path);
        assert.equal(status, 0, `${name}: ${JSON.stringify(report)} ${stderr}`);
        await writeFile(folder.file('oracle.raw'), oracle);
        await qemuImg.compare(folder.file('oracle.raw'), 'raw', path, 'qcow2');
        await using again = await openFile(path, { access: 'read' });
        const reopened = await qcow2Format.openSource(again);
        assert.ok(Buffer.from(await readGuest(reopened, 0, size, below)).equals(oracle), name);
      }
    },
  );
}

test('we read what qemu-io wrote as qemu-img reads it', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  let seed = 0;
  for (const shape of grid()) {
    const random = seeded(++seed);
    const size = diskSize(shape.cluster);
    const path = folder.file('theirs.qcow2');
    await qemuImg.create(path, size, { options: options(shape) });
    // QEMU compresses into clusters that are not allocated only, and several into one host cluster, which a
    // refcount of one bit cannot count.
    const compressed = shape.bits === 1 ? [] : [0, 1, 2, 4];
    const commands = compressed.map(
      (cluster) => `write -c -P ${cluster + 1} ${cluster * shape.cluster} ${shape.cluster}`,
    );
    for (let step = 0; step < 40; step++) {
      const change = randomChange(
        random,
        Math.floor(size / 512),
        Math.max(1, Math.min(shape.cluster, 65_536) / 512),
      );
      if (change.kind === 'flush') continue;
      const length = change.kind === 'write' ? change.bytes.length : change.length;
      const range = `${change.offset * 512} ${length * 512}`;
      if (change.kind === 'write') commands.push(`write -P ${change.bytes[0]} ${range}`);
      else if (change.kind === 'discard') commands.push(`discard ${range}`);
      else commands.push(`write -z ${change.allocate ? '' : '-u '}${range}`);
    }
    await qemuIo(path, commands);
    const raw = folder.file('theirs.raw');
    await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
    await using file = await openFile(path, { access: 'read' });
    const source = await qcow2Format.openSource(file);
    const bytes = Buffer.from(await readGuest(source, 0, source.size));
    assert.ok(bytes.equals(await readFile(raw)), JSON.stringify(shape));
  }
});
