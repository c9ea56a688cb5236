import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkedDevice, copyDifferences, DiskError, faulty, isDiskError, MemoryDevice } from '@strata/block';
import { randomFrom, scribble } from '@strata/testkit';

async function holding(bytes: Uint8Array): Promise<MemoryDevice> {
  const memory = new MemoryDevice(bytes.length);
  await memory.write(bytes, 0);
  return memory;
}

const size = 1_000_001;
const untouched = 0xee;

/** Two disks that are alike in some places and not in others, each with zeros and holes. */
async function pair(seed: number): Promise<readonly [MemoryDevice, MemoryDevice]> {
  const random = randomFrom(seed);
  const one = new MemoryDevice(size);
  await scribble(checkedDevice(one), random);
  const two = await holding(one.bytes());
  await two.discard(0, size);
  await two.write(one.bytes().subarray(0, 600_000), 0);
  for (let count = 0; count < 12; count++) {
    const at = random.upTo(size - 20_001);
    await two.write(random.bytes(1 + random.upTo(19_999)), at);
  }
  return [one, two];
}

for (const options of [{}, { parallel: 1 }, { bufferSize: 5000 }]) {
  test(`only blocks in which the disks differ are written, and whole: ${JSON.stringify(options)}`, async () => {
    for (const seed of [1, 2, 3, 4]) {
      const [wanted, other] = await pair(seed);
      await using target = await holding(new Uint8Array(size).fill(untouched));
      await copyDifferences(wanted, other, target, options);
      const [is, want, had] = [target.bytes(), wanted.bytes(), other.bytes()];
      let written = 0;
      for (let at = 0; at < size; at++) {
        if (is[at] !== untouched || want[at] !== had[at]) {
          assert.equal(is[at], want[at], `byte ${at}`);
          written++;
        }
      }
      assert.ok(written > 0 && written < size / 2, `${written} bytes`);
    }
  });
}

test('what both know to be zeros is not read, and what is not selected is not touched', async () => {
  await using wanted = new MemoryDevice(1 << 20);
  await using other = new MemoryDevice(1 << 20);
  await wanted.write(new Uint8Array(4096).fill(1), 0);
  await other.write(new Uint8Array(4096).fill(2), 512 << 10);
  const reads: string[] = [];
  const watched = (disk: MemoryDevice, name: string) =>
    faulty(disk, ({ call, offset }) => {
      if (call === 'read') reads.push(`${name} ${offset}`);
      return undefined;
    });
  await using target = await holding(new Uint8Array(1 << 20).fill(untouched));
  const half = 256 << 10;
  await copyDifferences(watched(wanted, 'wanted'), watched(other, 'other'), target, {
    select: async (offset, limit) => ({ length: Math.min(half, limit), wanted: offset >= half }),
  });
  assert.ok(reads.length > 0);
  assert.deepEqual(new Set(reads), new Set([`other ${512 << 10}`]));
  const expected = new Uint8Array(1 << 20).fill(untouched).fill(0, 512 << 10, (512 << 10) + 4096);
  assert.ok(Buffer.compare(target.bytes(), expected) === 0);
});

test('a failure tells its step and its place', async () => {
  const [wanted, other] = await pair(5);
  for (const [call, op] of [
    ['read', 'read'],
    ['write', 'write'],
  ] as const) {
    await using target = new MemoryDevice(size);
    const broken = faulty(call === 'read' ? wanted : target, (one) =>
      one.call === call ? { fail: new DiskError('io', 'broken') } : undefined,
    );
    const disks = call === 'read' ? ([broken, other, target] as const) : ([wanted, other, broken] as const);
    await assert.rejects(copyDifferences(disks[0], disks[1], disks[2]), (error) => {
      assert.ok(isDiskError(error));
      assert.equal(error.context.op, op);
      assert.equal(typeof error.context.offset, 'number');
      return true;
    });
  }
});
