/** Random calls on a disk, and comparing what they leave with what they leave on an array. */
import type { BlockDevice } from '@strata/block';
import { oracle } from './oracle.ts';
import type { Random } from './random.ts';
import { assertSameBytes } from './same-bytes.ts';

/** The longest range of a random call: more than the cluster that images have if nobody says otherwise. */
const LONGEST = 70_000;

/** All bytes of a disk. */
export async function bytesOf(device: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size);
  await device.read(bytes, 0);
  return bytes;
}

/** Rejects with the first byte that differs. `what` says when it was looked at. */
export async function assertBytes(device: BlockDevice, expected: Uint8Array, what: string): Promise<void> {
  assertSameBytes(await bytesOf(device), expected, what);
}

/** A range inside a disk: anywhere, aligned or not, often touching an end. */
export function anyRange(random: Random, size: number): { readonly offset: number; readonly length: number } {
  const length = Math.min(random.upTo(3) === 0 ? random.upTo(16) : random.upTo(LONGEST), size);
  const room = size - length;
  const place = random.upTo(5);
  const offset = place === 0 ? 0 : place === 1 ? room : random.upTo(room);
  return { offset: place === 2 ? offset - (offset % 512) : offset, length };
}

/** Some of everything: data, zeros, discarded ranges. */
export async function scribble(device: BlockDevice, random: Random): Promise<void> {
  for (let i = 0; i < 12; i++) {
    const { offset, length } = anyRange(random, device.size);
    const kind = random.upTo(3);
    if (kind === 0) await device.zero(offset, length);
    else if (kind === 1) await device.discard(offset, length);
    else await device.write(random.bytes(length), offset);
  }
}

/** Runs `steps` random calls on a disk and on the oracle and compares them all the way. */
export async function runModel(device: BlockDevice, random: Random, steps: number): Promise<void> {
  const bytes = await bytesOf(device);
  const perfect = oracle(bytes);
  for (let step = 0; step < steps; step++) {
    const { offset, length } = anyRange(random, device.size);
    const kind = random.upTo(9);
    if (kind < 4) {
      const data = random.bytes(length);
      await Promise.all([device.write(data, offset), perfect.write(data, offset)]);
    } else if (kind < 6) {
      await Promise.all([device.zero(offset, length), perfect.zero(offset, length)]);
    } else if (kind === 6) {
      await device.discard(offset, length);
      await device.read(bytes.subarray(offset, offset + length), offset);
    } else if (kind === 7) {
      await device.flush();
    } else {
      const found = new Uint8Array(length);
      if (!device.tryRead(found, offset)) await device.read(found, offset);
      assertSameBytes(found, bytes.subarray(offset, offset + length), `step ${step}, ${length} at ${offset}`);
    }
  }
  await assertBytes(device, bytes, `after ${steps} calls`);
}
