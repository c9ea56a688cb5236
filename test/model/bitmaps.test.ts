/**
 * Random steps on an image and its bitmaps, kept in qcow2 and beside a raw image, compared with sets after every step;
 * what is in the file in the end, QEMU's tools are asked too.
 *
 * BITMAP_STEPS asks for more steps than 3,000; a failure prints the seed, and MODEL_SEED repeats it.
 */
import assert from 'node:assert/strict';
import { open, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import {
  type BitmapStore,
  bitmapStoreOf,
  bitmapsOf,
  type FrozenBitmap,
  withBitmapsBeside,
} from '@strata/bitmap';
import {
  type ImageFormat,
  isDiskError,
  type Layer,
  MemoryDevice,
  openFile,
  raw,
  type WritableFile,
} from '@strata/block';
import { qcow2Format } from '@strata/qcow2';
import { nbdinfo, qemuImg, qemuNbd, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import fc from 'fast-check';
import { anyStep, BitmapOracle, type BitmapStep, halfOf, mostSectors } from './bitmap-oracle.ts';

const stepsPerRun = 60;
const steps = Number(process.env['BITMAP_STEPS'] ?? 3000);
const seed = process.env['MODEL_SEED'];
const diskSize = 2 ** 20;
const below = new MemoryDevice(mostSectors * 512);

/** An image under test. */
class Subject implements AsyncDisposable {
  readonly oracle = new BitmapOracle(diskSize);
  readonly path: string;
  readonly #format: ImageFormat;
  #file: WritableFile | undefined;
  #layer: Layer | undefined;
  #frozen = new Map<string, FrozenBitmap>();

  constructor(path: string, format: ImageFormat) {
    this.path = path;
    this.#format = format;
  }

  async open(): Promise<void> {
    this.#file = await openFile(this.path, { access: 'write' });
    this.#layer = await this.#format.open(this.#file);
  }

  async close(): Promise<void> {
    await this.#layer?.[Symbol.asyncDispose]();
    await this.#file?.[Symbol.asyncDispose]();
    this.#layer = undefined;
    this.#file = undefined;
    this.#frozen.clear();
    this.oracle.reopened();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #bitmaps(): BitmapStore {
    return bitmapStoreOf(this.#layer as Layer) as BitmapStore;
  }

  async step(step: BitmapStep): Promise<void> {
    const refusal = this.oracle.refusal(step);
    const source = step.kind === 'merge' ? this.oracle.bitmaps.get(step.other) : undefined;
    if (step.kind === 'merge' && refusal === undefined && (source === undefined || source.inconsistent))
      return;
    if (refusal !== undefined) {
      await assert.rejects(this.#run(step), (error) => isDiskError(error, refusal), JSON.stringify(step));
    } else {
      await this.#run(step);
      this.oracle.apply(step);
    }
    await this.compare(JSON.stringify(step));
  }

  async #run(step: BitmapStep): Promise<void> {
    const layer = this.#layer as Layer;
    switch (step.kind) {
      case 'write':
      case 'zero':
      case 'discard': {
        const { offset, length } = this.oracle.rangeOf(step);
        if (step.kind === 'write') return layer.write(new Uint8Array(length).fill(7), offset, below);
        return step.kind === 'zero' ? layer.zero(offset, length, below) : layer.discard(offset, length);
      }
      case 'add':
        return this.#bitmaps.add(step.name, step);
      case 'remove':
        return this.#bitmaps.remove(step.name);
      case 'clear':
        return this.#bitmaps.clear(step.name);
      case 'enable':
      case 'disable':
        return this.#bitmaps.setEnabled(step.name, step.kind === 'enable');
      case 'rename':
        return this.#bitmaps.rename(step.name, step.other);
      case 'merge': {
        // What is asked of a bitmap that is not there is asked of the target.
        const isThere = this.oracle.bitmaps.get(step.other)?.inconsistent === false;
        const other = isThere ? await this.#bitmaps.load(step.other) : undefined;
        return other ? this.#bitmaps.merge(step.name, other) : this.#bitmaps.clear(step.name);
      }
      case 'freeze':
        this.#frozen.set(step.name, await this.#bitmaps.freeze(step.name));
        return;
      case 'end': {
        const frozen = this.#frozen.get(step.name);
        this.#frozen.delete(step.name);
        if (step.left === 'half') frozen?.content.clear(0, halfOf(this.oracle.size));
        return frozen?.end(step.left === 'nothing' ? undefined : frozen.content);
      }
      case 'resize':
        return layer.resize(step.sectors * 512, below);
      case 'flush':
        return layer.flush();
      case 'reopen':
        await this.close();
        return this.open();
      case 'change behind':
        return this.#changeBehind();
    }
  }

  /** In a qcow2 image nobody does that to us: its locks and its own flags are tested elsewhere. */
  async #changeBehind(): Promise<void> {
    if (this.#format.name !== 'raw') return;
    await this.close();
    {
      await using file = await open(this.path, 'r+');
      await file.write(new Uint8Array(1).fill(9), 0, 1, 0);
    }
    this.oracle.spoilt();
    return this.open();
  }

  async compare(after: string): Promise<void> {
    const listed = await this.#bitmaps.list();
    const expected = [...this.oracle.bitmaps].map(([name, bitmap]) => {
      const { granularity, enabled, inconsistent, persistent, frozen } = bitmap;
      return { name, granularity, enabled, inconsistent, persistent, busy: frozen !== undefined };
    });
    assert.deepEqual(listed, expected, after);
    for (const [name, bitmap] of this.oracle.bitmaps) {
      if (bitmap.inconsistent) continue;
      const found = await this.#bitmaps.load(name);
      assert.deepEqual([...found.ranges()], this.oracle.rangesOf(bitmap), `${name} ${after}`);
      if (bitmap.frozen === undefined) continue;
      const content = { granularity: bitmap.granularity, dirty: new Set(bitmap.frozen.content) };
      assert.deepEqual([...(this.#frozen.get(name)?.content.ranges() ?? [])], this.oracle.rangesOf(content));
    }
  }

  /** What a reader finds in the closed image. */
  async compareStored(): Promise<void> {
    await using file = await openFile(this.path, { access: 'read' });
    await using source = await this.#format.openSource(file);
    for (const [name, bitmap] of this.oracle.bitmaps) {
      const facts = (await bitmapsOf(source)?.list())?.find((each) => each.name === name);
      assert.equal(facts?.inconsistent, bitmap.inconsistent, name);
      if (bitmap.inconsistent) continue;
      const found = await bitmapsOf(source)?.load(name);
      assert.deepEqual([...(found?.ranges() ?? [])], this.oracle.rangesOf(bitmap), name);
    }
  }
}

/** Formats, and how an image of them is made. */
const kinds = {
  'qcow2 with small clusters': {
    format: qcow2Format,
    make: (path: string) => qemuImg.create(path, String(diskSize), { options: { cluster_size: 4096 } }),
  },
  qcow2: { format: qcow2Format, make: (path: string) => qemuImg.create(path, String(diskSize)) },
  'raw with a side file': {
    format: withBitmapsBeside(raw),
    make: async (path: string) => await writeFile(path, new Uint8Array(diskSize)),
  },
} as const;

async function follow(kind: keyof typeof kinds, folder: TemporaryFolder, plan: readonly BitmapStep[]) {
  const { format, make } = kinds[kind];
  const path = folder.file('image');
  await make(path);
  const subject = new Subject(path, format);
  await subject.open();
  try {
    for (const step of plan) await subject.step(step);
  } finally {
    await subject.close();
  }
  await subject.compareStored();
  return subject;
}

const runs = (number: number) => ({
  numRuns: number,
  ...(seed === undefined ? {} : { seed: Number(seed) }),
});

for (const kind of Object.keys(kinds) as (keyof typeof kinds)[]) {
  test(
    `bitmaps are what sets of granules are after any of ${steps} steps: ${kind}`,
    requires('qemu-img'),
    async () => {
      const plans = fc.array(anyStep, { minLength: 1, maxLength: stepsPerRun, size: 'max' });
      const property = fc.asyncProperty(plans, async (plan) => {
        await using folder = await temporaryFolder();
        const { path } = await follow(kind, folder, plan);
        if (kind !== 'raw with a side file') await assertSound(path);
      });
      await fc.assert(property, runs(Math.ceil((2 * steps) / stepsPerRun / 3)));
    },
  );
}

async function assertSound(path: string): Promise<void> {
  const { status, stderr, report } = await qemuImg.check(path);
  assert.equal(status, 0, stderr + JSON.stringify(report));
}

test('QEMU reads what our steps left in qcow2', requires('qemu-img', 'qemu-nbd', 'nbdinfo'), async () => {
  const property = fc.asyncProperty(
    fc.array(anyStep, { minLength: 20, maxLength: stepsPerRun, size: 'max' }),
    async (plan) => {
      await using folder = await temporaryFolder();
      const { path, oracle } = await follow('qcow2', folder, plan);
      const names = [...oracle.bitmaps.keys()];
      const given = names.flatMap((name) => ['-B', name]);
      const socket = folder.file('s');
      await using _ = await qemuNbd(path, socket, ['-f', 'qcow2', '-r', ...given]);
      for (const [name, bitmap] of oracle.bitmaps) {
        const map = await nbdinfo.map(`nbd+unix:///?socket=${socket}`, `qemu:dirty-bitmap:${name}`);
        const dirty = map.filter(({ type }) => type === 1).map(({ offset, length }) => ({ offset, length }));
        assert.deepEqual(dirty, oracle.rangesOf(bitmap), name);
      }
    },
  );
  await fc.assert(property, runs(12));
});
