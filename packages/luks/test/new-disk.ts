/** LUKS disks for tests: made quickly, with few iterations. */
import { MemoryDevice } from '@strata/block';
import { createLuks, type LuksChoices, planLuks } from '../src/create.ts';

export const PASSPHRASE: Uint8Array = Buffer.from('correct horse');

/** A new disk of `size` bytes in memory. */
export async function newDisk(size: number, choices: LuksChoices = {}): Promise<MemoryDevice> {
  const plan = planLuks({ iterTime: 1, ...choices });
  const memory = new MemoryDevice(plan.payloadOffset + size);
  (await createLuks(memory, plan, PASSPHRASE)).fill(0);
  return memory;
}
