/** The host fails a request: the call says so, everything else goes on, and no structure is damaged. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DiskError, type Layer, MemoryDevice } from '@strata/block';
import { checkImage } from '../src/check.ts';
import { createQcow2 } from '../src/create.ts';
import { qcow2FormatWith } from '../src/layer.ts';
import { apply, type Change, nothingBelow, randomChange, readGuest } from './guest.ts';
import { type Random, seeded } from './random.ts';
import { type Fault, RecordingFile } from './recording.ts';

interface Shape {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
}

const SHAPES: readonly Shape[] = [
  { version: 3, clusterSize: 4096, refcountBits: 16 },
  { version: 2, clusterSize: 512, refcountBits: 16 },
  { version: 3, clusterSize: 512, refcountBits: 64 },
];

const format = qcow2FormatWith({ l2CacheBytes: 1, discardHost: true });

async function newFile(shape: Shape, size: number): Promise<RecordingFile> {
  const memory = new MemoryDevice();
  await createQcow2(memory, { ...shape, size, backing: { name: 'below', format: 'raw' } });
  const file = new RecordingFile(memory);
  file.cached = false;
  return file;
}

/** What each byte may be: what it was, or what a failed call wanted. */
class Expectation {
  readonly now: Uint8Array;
  readonly #also = new Map<number, number[]>();

  constructor(start: Uint8Array) {
    this.now = start;
  }

  /** Takes note of a change that succeeded, or that may have happened in part. */
  take(change: Change, outcome: 'done' | 'failed' | 'either'): void {
    if (change.kind === 'flush') return;
    const length = change.kind === 'write' ? change.bytes.length : change.length;
    for (let i = 0; i < length; i++) {
      const at = change.offset + i;
      const value = change.kind === 'write' ? (change.bytes[i] as number) : 0;
      if (outcome === 'done') {
        this.#also.delete(at);
        this.now[at] = value;
      } else {
        this.#also.set(at, [...(this.#also.get(at) ?? []), value]);
      }
    }
  }

  check(seen: Uint8Array, title: string): void {
    for (let at = 0; at < seen.length; at++) {
      const value = seen[at] as number;
      if (value === this.now[at] || this.#also.get(at)?.includes(value) === true) continue;
      assert.fail(`${title}: byte ${at} is ${value}, not ${this.now[at]} or ${this.#also.get(at)}`);
    }
  }
}

/** The changes of a run, the same for every place of the fault. */
function changes(random: Random, size: number, unit: number): Change[] {
  const list = Array.from({ length: 24 }, () => randomChange(random, size, unit));
  return [...list, { kind: 'flush' }];
}

async function tryApply(layer: Layer, change: Change, below: MemoryDevice): Promise<boolean> {
  try {
    await apply(layer, change, below);
    return true;
  } catch (error) {
    assert.ok(error instanceof DiskError, `${error}`);
    return false;
  }
}

/** Runs the changes while request number `at` and, if `forGood`, all later ones of its kind fail. */
async function runWithFault(
  shape: Shape,
  kind: Parameters<Fault>[0],
  at: number,
  forGood: boolean,
  seed: number,
): Promise<boolean> {
  const size = 40 * 512 * 8;
  const file = await newFile(shape, size);
  const below = nothingBelow(size) as MemoryDevice;
  await below.write(new Uint8Array(size).fill(0xbb), 0);
  const layer = await format.open(file);
  const expectation = new Expectation(new Uint8Array(size).fill(0xbb));
  let count = 0;
  let isOn = true;
  let failed = false;
  file.fault = (requested) => {
    if (!isOn || requested !== kind || count++ < at || (failed && !forGood)) return undefined;
    failed = true;
    return new DiskError(kind === 'write' ? 'no-space' : 'io', 'the test says so');
  };
  const title = JSON.stringify({ ...shape, kind, at, forGood, seed });
  for (const change of changes(seeded(seed), size, shape.clusterSize)) {
    const done = await tryApply(layer, change, below);
    if (change.kind === 'discard') expectation.take(change, 'either');
    else expectation.take(change, done ? 'done' : 'failed');
  }
  isOn = false;
  expectation.check(await readGuest(layer, 0, size, below), title);

  const last: Change = { kind: 'write', offset: 1000, bytes: new Uint8Array(9000).fill(0x11) };
  await apply(layer, last, below);
  expectation.take(last, 'done');
  await layer[Symbol.asyncDispose]();
  const report = await checkImage(file);
  assert.equal(
    report.corruptions + report.checkErrors + report.leaks,
    0,
    `${title} ${report.findings[0]?.text}`,
  );
  const again = await format.openSource(file);
  expectation.check(await readGuest(again, 0, size, below), `${title}, opened again`);
  return failed;
}

for (const kind of ['write', 'zero', 'flush', 'read'] as const) {
  test(`a ${kind} that fails, once or for good, at any request, damages and leaks nothing`, async () => {
    for (const [index, shape] of SHAPES.entries()) {
      for (const forGood of [false, true]) {
        for (let at = 0; ; at += kind === 'write' ? 3 : 1) {
          if (!(await runWithFault(shape, kind, at, forGood, 31 + index))) break;
        }
      }
    }
  });
}

describe('an image on a full host', () => {
  test('can be read and overwritten', async () => {
    const file = await newFile({ version: 3, clusterSize: 4096, refcountBits: 16 }, 65_536);
    const layer = await format.open(file);
    const below = nothingBelow(65_536);
    await layer.write(new Uint8Array(8192).fill(1), 0, below);
    await layer.flush();
    const end = file.size;
    // Full: what lies in the file can be overwritten, nothing can be added.
    const { write } = file;
    file.write = async (from, offset) => {
      if (offset + from.length > end) throw new DiskError('no-space', 'full');
      await write.call(file, from, offset);
    };
    await assert.rejects(layer.write(new Uint8Array(4096).fill(2), 32_768, below), { code: 'no-space' });
    await layer.write(new Uint8Array(100).fill(3), 50, below);
    await layer.flush();
    assert.deepEqual(
      (await readGuest(layer, 0, 200)).subarray(45, 155),
      Uint8Array.from([...new Array(5).fill(1), ...new Array(100).fill(3), ...new Array(5).fill(1)]),
    );
    assert.deepEqual(await readGuest(layer, 32_768, 10), new Uint8Array(10));
    await layer[Symbol.asyncDispose]();
    const report = await checkImage(file);
    assert.equal(report.corruptions + report.leaks, 0);
  });
});
