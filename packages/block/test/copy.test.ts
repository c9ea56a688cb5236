import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type BlockDevice,
  type BlockSource,
  checkedDevice,
  copy,
  createFile,
  DiskError,
  type Extent,
  faulty,
  MemoryDevice,
  type TraceEvent,
  traced,
} from '@strata/block';
import {
  assertSameBytes,
  bytesOf,
  qemuImg,
  randomFrom,
  requires,
  scribble,
  temporaryFolder,
} from '@strata/testkit';

/** A memory device that holds `bytes`. */
async function holding(bytes: Uint8Array): Promise<MemoryDevice> {
  const memory = new MemoryDevice(bytes.length);
  await memory.write(bytes, 0);
  return memory;
}

async function scribbled(size: number, seed: number): Promise<MemoryDevice> {
  const memory = new MemoryDevice(size);
  await scribble(checkedDevice(memory), randomFrom(seed));
  return memory;
}

for (const options of [{}, { parallel: 1 }, { bufferSize: 5000 }, { sparse: 512 }, { sparse: 0 }]) {
  test(`the target reads as the source, whatever it held before: ${JSON.stringify(options)}`, async () => {
    for (const seed of [1, 2, 3]) {
      await using source = await scribbled(1_000_001, seed);
      await using target = await holding(randomFrom(99).bytes(1_000_001));
      await copy(source, target, options);
      assertSameBytes(target.bytes(), source.bytes());
    }
  });
}

test('zeros are not written to a target of zeros, neither holes nor zeros inside data', async () => {
  const bytes = new Uint8Array(1 << 20);
  bytes.fill(7, 8192, 12_288);
  bytes[100_000] = 7;
  await using source = await holding(bytes);
  const events: TraceEvent[] = [];
  await using memory = new MemoryDevice(1 << 20);
  const target = traced(memory, (event) => events.push(event));
  const result = await copy(source, target, { targetIsZero: true });
  assert.deepEqual(
    events
      .filter((event) => event.phase === 'begin')
      .map(({ call, offset, length }) => [call, offset, length]),
    [
      ['write', 8192, 4096],
      ['write', 98_304, 4096],
    ],
  );
  assert.deepEqual(result, { written: 8192, zeroed: 0 });
  assertSameBytes(memory.bytes(), bytes);
});

test('zeros are made by zeroing where the target may hold something', async () => {
  await using source = new MemoryDevice(1 << 20);
  await source.write(new Uint8Array(65_536).fill(7), 0);
  await using target = await holding(new Uint8Array(1 << 20).fill(9));
  assert.deepEqual(await copy(source, target), { written: 65_536, zeroed: (1 << 20) - 65_536 });
  assertSameBytes(target.bytes(), source.bytes());
});

test('with sparse 0 everything is written out, holes too', async () => {
  await using source = new MemoryDevice(3_000_000);
  await using target = new MemoryDevice(3_000_000);
  const options = { sparse: 0, targetIsZero: true };
  assert.deepEqual(await copy(source, target, options), { written: 3_000_000, zeroed: 0 });
  assert.ok((await target.allocated()) >= 3_000_000);
});

test('extents that are not selected are left as they are', async () => {
  await using source = new MemoryDevice(1 << 20);
  await source.write(new Uint8Array(65_536).fill(7), 65_536);
  await using target = await holding(new Uint8Array(1 << 20).fill(9));
  await copy(source, target, { select: (extent) => extent.kind === 'data' });
  const bytes = target.bytes();
  assert.equal(bytes.indexOf(7), 65_536);
  assert.equal(bytes.lastIndexOf(7), 131_071);
  assert.equal(bytes.filter((byte) => byte === 9).length, (1 << 20) - 65_536);
});

test('writes begin in the order of the disk, though reads end in another', async () => {
  await using memory = await holding(randomFrom(1).bytes(1 << 20));
  const random = randomFrom(2);
  const source = faulty(memory, () => {
    let wait = Promise.resolve();
    for (let turns = random.upTo(20); turns > 0; turns--) wait = wait.then(() => undefined);
    return { wait };
  });
  const begun: number[] = [];
  await using target = new MemoryDevice(1 << 20);
  const watched = traced(target, (event) => event.phase === 'begin' && begun.push(event.offset));
  await copy(source, watched, { bufferSize: 16_384 });
  assert.deepEqual(
    begun,
    begun.toSorted((a, b) => a - b),
  );
  assert.equal(begun.length, 64);
  assertSameBytes(target.bytes(), memory.bytes());
});

test('progress only grows and ends with the whole', async () => {
  await using source = await scribbled(700_001, 4);
  await using target = new MemoryDevice(700_001);
  const steps: number[] = [];
  await copy(source, target, {
    bufferSize: 65_536,
    progress: (done, total) => {
      assert.equal(total, 700_001);
      steps.push(done);
    },
  });
  assert.ok(steps.every((done, index) => done > (steps[index - 1] ?? 0)));
  assert.equal(steps.at(-1), 700_001);
});

test('an abort ends it with aborted, and nothing is in flight after', async () => {
  await using source = await holding(new Uint8Array(4 << 20).fill(7));
  await using memory = new MemoryDevice(4 << 20);
  const controller = new AbortController();
  let writes = 0;
  let running = 0;
  const target = traced(memory, ({ phase }) => {
    running += phase === 'begin' ? 1 : -1;
    if (phase === 'begin' && ++writes === 5) controller.abort();
  });
  const options = { bufferSize: 65_536, signal: controller.signal };
  await assert.rejects(copy(source, target, options), { code: 'aborted' });
  assert.equal(running, 0);
  assert.ok(writes < 20, `${writes} writes`);
});

test('a copy that was aborted before it began does nothing', async () => {
  await using source = await holding(new Uint8Array(10).fill(7));
  await using target = new MemoryDevice(10);
  await assert.rejects(copy(source, target, { signal: AbortSignal.abort() }), { code: 'aborted' });
  assertSameBytes(target.bytes(), new Uint8Array(10));
});

for (const call of ['read', 'write', 'extent', 'zero'] as const) {
  test(`a failing ${call} ends it with that failure, and nothing is in flight after`, async () => {
    await using source = await scribbled(1 << 20, 6);
    await using target = await holding(new Uint8Array(1 << 20).fill(9));
    let running = 0;
    const fail = new DiskError('io', 'Input/output error');
    const spoil = (pending: { readonly call: string; readonly index: number }) =>
      pending.call === call && pending.index >= 2 ? { fail } : undefined;
    const count = ({ phase }: TraceEvent): void => {
      running += phase === 'begin' ? 1 : -1;
    };
    const from = traced(faulty(source, spoil), count);
    const to = traced(faulty(target, spoil), count);
    const options = { bufferSize: 16_384 };
    await assert.rejects(copy(from, to, options), { code: 'io', message: 'Input/output error' });
    assert.equal(running, 0);
  });
}

test('a failure says where on the disk it was', async () => {
  await using source = await holding(new Uint8Array(1 << 20).fill(7));
  await using memory = new MemoryDevice(1 << 20);
  const target = faulty(memory, ({ offset }) =>
    offset === 65_536 * 3 ? { fail: new DiskError('no-space', 'full') } : undefined,
  );
  await assert.rejects(copy(source, target, { bufferSize: 65_536 }), (error: DiskError) => {
    assert.equal(error.code, 'no-space');
    assert.deepEqual([error.context.op, error.context.offset], ['write', 65_536 * 3]);
    return true;
  });
});

test('a target that is too short is refused before anything is written', async () => {
  await using source = await holding(new Uint8Array(11).fill(7));
  await using target = new MemoryDevice(10);
  await assert.rejects(copy(source, target), RangeError);
  assertSameBytes(target.bytes(), new Uint8Array(10));
});

test('an empty disk is copied at once', async () => {
  await using source = new MemoryDevice(0);
  await using target = new MemoryDevice(10);
  assert.deepEqual(await copy(source, target), { written: 0, zeroed: 0 });
});

test(
  'a copy between files is what qemu-img finds identical, with its holes',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    await using source = await createFile(folder.file('source'));
    await source.truncate(20_000_000);
    await scribble(checkedDevice(source), randomFrom(11));
    await source.write(randomFrom(12).bytes(100_000), 15_000_000);
    await using target = await createFile(folder.file('target'));
    await target.truncate(20_000_000);
    await copy(source, target, { targetIsZero: true });
    await qemuImg.compare(source.path, 'raw', target.path, 'raw');
    assertSameBytes(await bytesOf(target), await bytesOf(source));
    assert.ok(((await target.allocated()) ?? 0) <= ((await source.allocated()) ?? 0) + 65_536);
  },
);

test('with a unit, whole units are written and passed over, but for the end of the disk', async () => {
  const unit = 65_536;
  for (const size of [10 * unit, 10 * unit + 512]) {
    await using source = new MemoryDevice(size);
    // The end of unit 1 and the start of 2, a block inside 4, and the end of the disk.
    await source.write(new Uint8Array(8192).fill(7), 2 * unit - 4096);
    await source.write(new Uint8Array(512).fill(8), 4 * unit + 5120);
    await source.write(new Uint8Array(512).fill(9), size - 512);
    const last = Math.floor((size - 1) / unit) * unit;
    for (const targetIsZero of [true, false]) {
      const calls: (readonly [string, number, number])[] = [];
      await using memory = await holding(new Uint8Array(size).fill(targetIsZero ? 0 : 0xaa));
      const target = traced(memory, ({ phase, call, offset, length }) => {
        if (phase === 'begin') calls.push([call, offset, length]);
      });
      await copy(source, target, { unit, targetIsZero });
      assertSameBytes(memory.bytes(), source.bytes());
      const writes = calls.filter(([call]) => call === 'write').map(([, offset, length]) => [offset, length]);
      assert.deepEqual(writes, [
        [unit, 2 * unit],
        [4 * unit, unit],
        [last, size - last],
      ]);
      for (const [, offset, length] of calls)
        assert.ok(offset % unit === 0 && (length % unit === 0 || offset + length === size));
      assert.equal(calls.length > 3, !targetIsZero);
    }
  }
});

test('with a unit, extents that are not selected are copied where they share a unit with others', async () => {
  await using source = new MemoryDevice(10 * 65_536);
  await source.write(new Uint8Array(100).fill(7), 65_536 * 2);
  await using target = await holding(new Uint8Array(10 * 65_536).fill(9));
  await copy(source, target, { unit: 65_536 * 4, sparse: 0, select: (extent) => extent.kind === 'data' });
  const bytes = target.bytes();
  assertSameBytes(bytes.subarray(0, 4 * 65_536), source.bytes().subarray(0, 4 * 65_536));
  assert.ok(bytes.subarray(4 * 65_536).every((byte) => byte === 9));
});

test('extents that are alike but lie apart are moved as one piece', async () => {
  await using memory = await holding(randomFrom(7).bytes(1 << 20));
  const extents = (offset: number, limit: number): Extent => {
    const length = Math.min(65_536 - (offset % 65_536), limit);
    return { offset, length, kind: offset < 786_432 ? 'data' : 'compressed', depth: 1 };
  };
  const source: BlockSource = {
    size: memory.size,
    read: (into, offset) => memory.read(into, offset),
    tryRead: (into, offset) => memory.tryRead(into, offset),
    extentAt: async (offset, limit) => extents(offset, limit),
    tryExtentAt: extents,
    [Symbol.asyncDispose]: async () => {},
  };
  const events: TraceEvent[] = [];
  await using copied = new MemoryDevice(1 << 20);
  const target = traced(copied, (event) => events.push(event));
  await copy(source, target, {
    bufferSize: 524_288,
    sparse: 65_536,
    select: ({ offset }) => offset !== 131_072,
  });
  assert.deepEqual(
    events.filter(({ phase }) => phase === 'begin').map(({ call, offset, length }) => [call, offset, length]),
    [
      ['write', 0, 131_072],
      ['write', 196_608, 327_680],
      ['write', 524_288, 262_144],
      ['write', 786_432, 262_144],
    ],
  );
});

/** A target that takes copies of ranges before `until`, and notes all calls. */
function offloading(memory: MemoryDevice, until: number) {
  const calls: (readonly [string, number, number])[] = [];
  const target: BlockDevice = {
    size: memory.size,
    caps: memory.caps,
    read: (into, offset) => memory.read(into, offset),
    tryRead: (into, offset) => memory.tryRead(into, offset),
    extentAt: (offset, limit) => memory.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => memory.tryExtentAt(offset, limit),
    write: (from, offset) => {
      calls.push(['write', offset, from.length]);
      return memory.write(from, offset);
    },
    copyFrom: async ({ host, at, length }, offset) => {
      calls.push(['copy', offset, length]);
      if (offset >= until) return false;
      const bytes = new Uint8Array(length);
      await host.read(bytes, at);
      await memory.write(bytes, offset);
      return true;
    },
    zero: (offset, length) => {
      calls.push(['zero', offset, length]);
      return memory.zero(offset, length);
    },
    discard: (offset, length) => memory.discard(offset, length),
    flush: () => memory.flush(),
    [Symbol.asyncDispose]: async () => {},
  };
  return { target, calls };
}

/** Data that lies at the same offset of its host, in runs of at most 256 KiB. */
function placed(memory: MemoryDevice): BlockSource {
  return Object.assign(checkedDevice(memory), {
    placeAt: async (at: number, limit: number) => ({ host: memory, at, length: Math.min(limit, 262_144) }),
  });
}

test('data is copied by the host where it can be, and holes are passed over as ever', async () => {
  await using memory = new MemoryDevice(20 << 20);
  await memory.write(randomFrom(4).bytes(19 << 20), 0);
  await memory.zero(1 << 20, 1 << 20);
  await using copied = new MemoryDevice(20 << 20);
  const { target, calls } = offloading(copied, Number.POSITIVE_INFINITY);
  const done: number[] = [];
  const result = await copy(placed(memory), target, {
    offload: true,
    targetIsZero: true,
    progress: (bytes) => done.push(bytes),
  });
  assertSameBytes(copied.bytes(), memory.bytes());
  assert.deepEqual(result, { written: 18 << 20, zeroed: 0 });
  assert.ok(calls.every(([call]) => call === 'copy'));
  assert.equal(done.at(-1), 20 << 20);
});

test('what the host cannot copy goes through memory, with all that follows, and zeros are looked for', async () => {
  for (const [parallel, until] of [
    [1, 0],
    [1, 18_874_368],
    [4, 262_144],
  ] as const) {
    await using memory = new MemoryDevice(40 << 20);
    await memory.write(randomFrom(5).bytes(40 << 20), 0);
    await memory.write(new Uint8Array(1 << 20), 33 << 20);
    await using copied = new MemoryDevice(40 << 20);
    const { target, calls } = offloading(copied, until);
    await copy(placed(memory), target, { offload: true, targetIsZero: true, parallel });
    assertSameBytes(copied.bytes(), memory.bytes());
    const tried = calls.filter(([call]) => call === 'copy');
    if (parallel === 1) assert.equal(tried.length, until / 262_144 + 1);
    const written = calls.filter(([call]) => call === 'write').reduce((sum, [, , length]) => sum + length, 0);
    if (parallel === 1) assert.equal(written, (39 << 20) - until);
    const hasZeros = calls.some(([call, at, to]) => call === 'write' && at < 34 << 20 && at + to > 33 << 20);
    if (parallel === 1) assert.equal(hasZeros, false);
  }
});

test('a copy that fails in the host says in which step and where', async () => {
  await using memory = new MemoryDevice(1 << 20);
  await memory.write(randomFrom(6).bytes(1 << 20), 0);
  const { target } = offloading(new MemoryDevice(1 << 20), 0);
  const failing = { ...target, copyFrom: () => Promise.reject(new DiskError('no-space', 'full')) };
  await assert.rejects(copy(placed(memory), failing, { offload: true }), {
    code: 'no-space',
    context: { op: 'write', offset: 0 },
  });
});
