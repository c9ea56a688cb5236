/** Our images under QEMU, QEMU's under us. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MemoryDevice, openFile } from '@strata/block';
import { qemuImg, qemuIo, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { qcow2Format } from '../src/layer.ts';
import { apply, mapOf, mirror, nothingBelow, randomChange, readGuest } from './guest.ts';
import { seeded } from './random.ts';

interface Shape {
  readonly compat: '0.10' | '1.1';
  readonly cluster: number;
  readonly bits: number;
  readonly extended?: boolean;
}

function* grid(): Generator<Shape> {
  for (const cluster of [512, 4096, 65_536, 2 ** 21]) {
    yield { compat: '0.10', cluster, bits: 16 };
    for (const bits of [1, 8, 16, 64]) yield { compat: '1.1', cluster, bits };
  }
  for (const cluster of [16_384, 65_536, 2 ** 21])
    for (const bits of [1, 16]) yield { compat: '1.1', cluster, bits, extended: true };
}

const options = ({ compat, cluster, bits, extended }: Shape) =>
  compat === '0.10'
    ? { compat, cluster_size: cluster }
    : { compat, cluster_size: cluster, refcount_bits: bits, extended_l2: extended ? 'on' : 'off' };

/** What changes like to begin and end at. */
const unitOf = ({ cluster, extended }: Shape): number => Math.min(extended ? cluster / 32 : cluster, 65_536);

const diskSize = (cluster: number): number =>
  cluster === 2 ** 21 ? 2 * cluster + 66_048 : Math.min(64 * cluster, 2 ** 20) + 40_960 + 512;

/** Makes an image with qemu-img, changes it, and lets QEMU judge it. */
async function writeAndJudge(folder: TemporaryFolder, shape: Shape, backed: boolean, seed: number) {
  const random = seeded(seed);
  const size = diskSize(shape.cluster);
  const name = JSON.stringify({ ...shape, seed });
  const path = folder.file('ours.qcow2');
  const below = nothingBelow(size) as MemoryDevice;
  const oracle = new Uint8Array(size);
  if (backed) for (let at = 0; at < size; at += 4096) if (random.below(2)) oracle.fill(0x77, at, at + 4096);
  await below.write(oracle, 0);
  const backing = { name: folder.file('back.raw'), format: 'raw' };
  await writeFile(backing.name, oracle);
  await qemuImg.create(path, size, { options: options(shape), ...(backed ? { backing } : {}) });

  const memory = new MemoryDevice();
  await memory.write(await readFile(path), 0);
  const layer = await qcow2Format.open(memory);
  for (let step = 0; step < 60; step++) {
    const unit = unitOf(shape);
    const change = randomChange(random, size, unit, shape.extended ? 80 * unit : 4 * unit);
    await apply(layer, change, below);
    const seen = change.kind === 'discard' ? await readGuest(layer, 0, size, below) : oracle;
    mirror(oracle, change, seen);
  }
  await layer[Symbol.asyncDispose]();
  await writeFile(path, memory.bytes());

  const { status, report, stderr } = await qemuImg.check(path);
  assert.equal(status, 0, `${name}: ${JSON.stringify(report)} ${stderr}`);
  await writeFile(folder.file('oracle.raw'), oracle);
  await qemuImg.compare(folder.file('oracle.raw'), 'raw', path, 'qcow2');
  await using file = await openFile(path, { access: 'read' });
  const again = await qcow2Format.openSource(file);
  assert.ok(Buffer.from(await readGuest(again, 0, size, below)).equals(oracle), name);
  if (!backed) assert.deepEqual(await mapOf(again), await qemuImg.map(path), name);
}

for (const backed of [false, true]) {
  const what = backed ? 'an overlay' : 'an image';
  const title = `qemu-img finds ${what} that we wrote clean, without leaks, and of our content`;
  test(title, requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    let seed = backed ? 1000 : 0;
    for (const shape of grid()) await writeAndJudge(folder, shape, backed, ++seed);
  });
}

/** The commands of qemu-io for random changes. */
function qemuCommands(shape: Shape, size: number, seed: number): string[] {
  // QEMU compresses into clusters that are not allocated only, and several into one host cluster, which a
  // refcount of one bit cannot count.
  const compressed = shape.bits === 1 ? [] : [0, 1];
  const commands = compressed.map(
    (cluster) => `write -c -P ${cluster + 1} ${cluster * shape.cluster} ${shape.cluster}`,
  );
  const random = seeded(seed);
  const unit = Math.max(1, unitOf(shape) / 512);
  for (let step = 0; step < 40; step++) {
    const most = shape.extended ? 80 * unit : 4 * unit;
    const change = randomChange(random, Math.floor(size / 512), unit, most);
    if (change.kind === 'flush') continue;
    const length = change.kind === 'write' ? change.bytes.length : change.length;
    const range = `${change.offset * 512} ${length * 512}`;
    if (change.kind === 'write') commands.push(`write -P ${change.bytes[0]} ${range}`);
    else if (change.kind === 'discard') commands.push(`discard ${range}`);
    else commands.push(`write -z ${change.allocate ? '' : '-u '}${range}`);
  }
  return commands;
}

test('we read and map what qemu-io wrote as qemu-img does', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  let seed = 0;
  for (const shape of grid()) {
    const size = diskSize(shape.cluster);
    const path = folder.file('theirs.qcow2');
    await qemuImg.create(path, size, { options: options(shape) });
    await qemuIo(path, qemuCommands(shape, size, ++seed));
    const raw = folder.file('theirs.raw');
    await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
    await using file = await openFile(path, { access: 'read' });
    const source = await qcow2Format.openSource(file);
    const bytes = Buffer.from(await readGuest(source, 0, source.size));
    assert.ok(bytes.equals(await readFile(raw)), JSON.stringify(shape));
    assert.deepEqual(await mapOf(source), await qemuImg.map(path), JSON.stringify(shape));
  }
});

test(
  'the same qemu-io commands leave the same zeros and holes as ours',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const size = 20 * 65_536;
    for (const compat of ['0.10', '1.1']) {
      const path = folder.file('theirs.qcow2');
      await qemuImg.create(path, size, { options: { compat } });
      const memory = new MemoryDevice();
      await memory.write(await readFile(path), 0);
      const layer = await qcow2Format.open(memory);
      const below = nothingBelow(size);
      const random = seeded(77);
      const commands: string[] = [];
      for (let step = 0; step < 60; step++) {
        const change = randomChange(random, size / 4096, 16, 64);
        if (change.kind === 'flush') continue;
        const offset = change.offset * 4096;
        const length = (change.kind === 'write' ? change.bytes.length : change.length) * 4096;
        const range = `${offset} ${length}`;
        if (change.kind === 'write') {
          commands.push(`write -P 5 ${range}`);
          await layer.write(new Uint8Array(length).fill(5), offset, below);
        } else if (change.kind === 'discard') {
          commands.push(`discard ${range}`);
          await layer.discard(offset, length);
        } else {
          commands.push(`write -z -u ${range}`);
          await layer.zero(offset, length, below);
        }
      }
      await qemuIo(path, commands);
      const kinds = (entries: readonly { start: number; present: boolean; zero: boolean; data: boolean }[]) =>
        entries.map(({ start, present, zero, data }) => ({ start, present, zero, data }));
      const ours = kinds(await mapOf(layer, { withoutOffsets: true }));
      await layer[Symbol.asyncDispose]();
      const theirs: ReturnType<typeof kinds> = [];
      for (const entry of kinds(await qemuImg.map(path))) {
        const last = theirs.at(-1);
        const { start, ...kind } = entry;
        const { start: _, ...lastKind } = last ?? { start: 0 };
        if (JSON.stringify(kind) !== JSON.stringify(lastKind)) theirs.push({ start, ...kind });
      }
      assert.deepEqual(ours, theirs, compat);
    }
  },
);
