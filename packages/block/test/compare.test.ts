import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkedDevice, compare, DiskError, faulty, MemoryDevice, traced } from '@strata/block';
import { randomFrom, scribble } from '@strata/testkit';

/** A memory device that holds `bytes`. */
async function holding(bytes: Uint8Array): Promise<MemoryDevice> {
  const memory = new MemoryDevice(bytes.length);
  await memory.write(bytes, 0);
  return memory;
}

test('disks that read the same are the same, though one has holes where the other has zeros', async () => {
  await using a = new MemoryDevice(1_000_001);
  await scribble(checkedDevice(a), randomFrom(3));
  await using b = await holding(a.bytes());
  assert.equal(await compare(a, b), undefined);
  assert.equal(await compare(b, a), undefined);
});

test('the first byte that differs is found, wherever it is', async () => {
  const bytes = randomFrom(4).bytes(600_000);
  await using a = await holding(bytes);
  for (const at of [0, 1, 511, 512, 262_143, 262_144, 300_001, 599_999]) {
    const changed = bytes.slice();
    changed[at] = 0;
    changed[599_999] = 0;
    await using b = await holding(changed);
    assert.equal(await compare(a, b), at);
    assert.equal(await compare(b, a), at);
    assert.equal(await compare(a, b, { bufferSize: 1000, parallel: 7 }), at);
  }
});

test('a byte in data opposite a hole is found', async () => {
  await using hole = new MemoryDevice(1 << 20);
  await using data = await holding(new Uint8Array(1 << 20));
  assert.equal(await compare(hole, data), undefined);
  await data.write(Uint8Array.of(1), 777_777);
  assert.equal(await compare(hole, data), 777_777);
  assert.equal(await compare(data, hole), 777_777);
});

test('the tail of the longer disk must be zeros', async () => {
  const bytes = randomFrom(5).bytes(300_000);
  await using short = await holding(bytes);
  await using long = await holding(bytes);
  await long.truncate(900_000);
  assert.equal(await compare(short, long), undefined);
  await long.zero(300_000, 600_000, { allocate: true });
  assert.equal(await compare(long, short), undefined);
  await long.write(Uint8Array.of(1), 899_999);
  assert.equal(await compare(short, long), 899_999);
  assert.equal(await compare(long, short), 899_999);
});

test('ranges that both disks know to be zeros are not read', async () => {
  await using memory = new MemoryDevice(1 << 30);
  await memory.write(Uint8Array.of(1), 1 << 29);
  let bytes = 0;
  const a = traced(
    faulty(memory, () => undefined),
    ({ phase, call, length }) => {
      if (phase === 'begin' && call === 'read') bytes += length;
    },
  );
  assert.equal(await compare(a, memory), undefined);
  assert.equal(bytes, 65_536);
});

test('of several differences the first is told, though a later one is found first', async () => {
  await using a = await holding(new Uint8Array(1 << 20).fill(1));
  await using b = await holding(new Uint8Array(1 << 20).fill(2));
  let release = (): void => {};
  const wait = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow = faulty(a, ({ call, offset }) => {
    if (call !== 'read') return undefined;
    if (offset === 0) return { wait };
    release();
    return undefined;
  });
  assert.equal(await compare(slow, b, { bufferSize: 65_536 }), 0);
});

test('progress ends with the length of the longer disk', async () => {
  await using a = new MemoryDevice(300_000);
  await using b = await holding(new Uint8Array(500_000));
  const steps: number[] = [];
  await compare(a, b, { progress: (done, total) => steps.push(done, total) });
  assert.deepEqual(steps.slice(-2), [500_000, 500_000]);
});

test('an abort and a failing read end it', async () => {
  await using a = await holding(new Uint8Array(1 << 20).fill(1));
  await using b = await holding(new Uint8Array(1 << 20).fill(1));
  await assert.rejects(compare(a, b, { signal: AbortSignal.abort() }), { code: 'aborted' });
  const bad = faulty(a, ({ offset }) =>
    offset === 262_144 ? { fail: new DiskError('io', 'Input/output error') } : undefined,
  );
  await assert.rejects(compare(b, bad, { bufferSize: 262_144 }), (error: DiskError) => {
    assert.equal(error.code, 'io');
    assert.deepEqual([error.context.op, error.context.offset], ['read', 262_144]);
    return true;
  });
});

test('disks of no bytes are the same', async () => {
  assert.equal(await compare(new MemoryDevice(0), new MemoryDevice(0)), undefined);
});
