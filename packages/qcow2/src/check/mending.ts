/**
 * L2 entries that no longer lead anywhere sound, and become "reads as zeros": what QEMU does with them.
 *
 * They are collected while references are counted, and written afterwards: only then is it known that nothing
 * else is where the table is.
 */
import type { HostFile } from '@strata/block';
import { encodeZeroLow, setEntry, tableOf } from '../entries.ts';
import type { Geometry } from '../geometry.ts';

/** More entries than this are not mended in one go. */
const MOST = 2 ** 20;

/** The entries to mend. */
export class Mending {
  readonly #tables = new Map<number, Set<number>>();
  #count = 0;

  /** True if the entry `index` of the table at an offset is to be mended. */
  has(tableAt: number, index: number): boolean {
    return this.#tables.size > 0 && this.#tables.get(tableAt)?.has(index) === true;
  }

  /** Takes in an entry. False: there are too many. */
  add(tableAt: number, index: number): boolean {
    if (this.#count >= MOST) return false;
    this.#count++;
    const table = this.#tables.get(tableAt);
    if (table === undefined) this.#tables.set(tableAt, new Set([index]));
    else table.add(index);
    return true;
  }

  /** Writes them, where the place of an entry in the file `mayChange`. Returns how many could not be. */
  async write(file: HostFile, geometry: Geometry, mayChange: (at: number) => boolean): Promise<number> {
    const zeros = zeroEntry(geometry);
    let left = 0;
    for (const [tableAt, indexes] of this.#tables) {
      for (const index of indexes) {
        const at = tableAt + index * geometry.l2EntrySize;
        if (mayChange(at)) await file.write(zeros, at);
        else left++;
      }
    }
    if (this.#count > left) await file.flush();
    return left;
  }
}

function zeroEntry({ l2EntrySize, version }: Geometry): Uint8Array {
  const bytes = new Uint8Array(l2EntrySize);
  const entry = tableOf(bytes);
  // Extended entries say it for each subcluster; version 2 has no way to say it.
  if (l2EntrySize === 16) setEntry(entry, 1, 0xffff_ffff, 0);
  else if (version >= 3) setEntry(entry, 0, 0, encodeZeroLow(0));
  return bytes;
}
