/**
 * The dirty bit, and what it allows: refcounts in the file that are behind those in memory.
 *
 * With lazy refcounts a barrier leaves changed refcount blocks in memory. The dirty bit is in the file before
 * the first L2 table is written that goes without its refcounts, and stays until the image is closed and all
 * refcounts are in the file. Who opens an image with the bit for writing counts anew first. Data still precedes
 * the tables that lead to it, and new blocks and a moved refcount table are written at once, so that the file's
 * refcount structures are always sound; only their numbers are not.
 *
 * Others change bits of the same field: each change begins with what is in the file.
 *
 * Spec: qcow2.txt, "Header", incompatible feature bit 0 and compatible feature bit 0.
 */
import { DiskError, type HostFile } from '@strata/block';
import { Compatible, Incompatible } from './format.ts';
import { type Header, readHeader } from './header.ts';

/** Where the incompatible features are in the header; their lowest byte has the dirty bit. */
const FIELD_AT = 72;
const DIRTY_AT = FIELD_AT + 7;
const DIRTY = Number(Incompatible.dirty);

/** The dirty bit of an image in use. */
export class DirtyBit {
  readonly #lazy: boolean;
  #isSet = false;
  #closing = false;

  constructor({ compatible }: Pick<Header, 'compatible'>) {
    this.#lazy = (compatible & Compatible.lazyRefcounts) !== 0n;
  }

  /** True if it is in the file, durably, because refcounts have stayed behind. */
  get isSet(): boolean {
    return this.#isSet;
  }

  /** True while changed refcounts may stay behind. */
  get allowsLaziness(): boolean {
    return this.#lazy && !this.#closing;
  }

  /** From now on refcounts are written with all else. */
  endLaziness(): void {
    this.#closing = true;
  }

  /** Writes it. It counts once the caller, who flushes, says `isDurable`. */
  async write(file: HostFile): Promise<void> {
    await change(file, (bits) => bits | DIRTY);
  }

  /** What was written is durable. */
  isDurable(): void {
    this.#isSet = true;
  }

  /** Clears it durably, if it was set here. All refcounts are durable already. */
  async clear(file: HostFile): Promise<void> {
    if (!this.#isSet) return;
    await change(file, (bits) => bits & ~DIRTY);
    await file.flush();
    this.#isSet = false;
  }
}

async function change(file: HostFile, to: (bits: number) => number): Promise<void> {
  const byte = new Uint8Array(1);
  await file.read(byte, DIRTY_AT);
  byte[0] = to(byte[0] ?? 0);
  await file.write(byte, DIRTY_AT);
}

/**
 * Makes the refcounts of an image right that was not closed properly, and clears its dirty bit, both durably;
 * resolves to the header as it is then.
 *
 * @throws {DiskError} corrupt if it is damaged beyond repair; limit; and what the file throws
 */
export async function repairDirty(file: HostFile): Promise<Header> {
  // It is as much code as all of reading, and few images need it.
  const { repairImage } = await import('./repair.ts');
  const { checkErrors, corruptions, failed } = await repairImage(file, 'all');
  if (failed !== undefined || checkErrors > 0 || corruptions > 0) {
    const why = failed ?? `${corruptions + checkErrors} errors are left`;
    throw new DiskError('corrupt', `Could not repair dirty image: ${why}`, { offset: FIELD_AT });
  }
  return readHeader(file);
}
