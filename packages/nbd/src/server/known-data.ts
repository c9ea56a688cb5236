/**
 * What a connection remembers of a disk's extents, so that most reads need not ask.
 *
 * Only data is remembered: to send zeros as bytes is always right, so this is never wrong, whatever is
 * written or discarded meanwhile.
 */
import type { BlockSource } from '@strata/block';
import { isZeros } from './read-layout.ts';

const shortest = 64 * 1024;
const longest = 2 ** 50;
/** So many reads out of one answer pay for an answer twice as long, which may take its giver twice as long. */
const worthwhileHits = 4;

/** One range that is known to be data throughout. */
export class KnownData {
  #start = 0;
  #end = 0;
  #reach = shortest;
  #hits = 0;

  covers(offset: number, length: number): boolean {
    if (offset < this.#start || offset + length > this.#end) return false;
    this.#hits++;
    return true;
  }

  /**
   * Asks about a range, and further than it if more than it has been used of earlier answers. True: it is all
   * data. False: it is not, or that is not known without waiting.
   */
  learn(source: BlockSource, offset: number, length: number): boolean {
    this.#reach = this.#hits < worthwhileHits ? shortest : Math.min(longest, this.#reach * 2);
    this.#hits = 0;
    const limit = Math.min(Math.max(length, this.#reach), source.size - offset);
    const extent = source.tryExtentAt(offset, limit);
    if (extent === undefined) return false;
    if (isZeros(extent)) return false;
    const end = offset + extent.length;
    const touches = offset <= this.#end && end >= this.#start;
    this.#end = touches ? Math.max(end, this.#end) : end;
    this.#start = touches ? Math.min(offset, this.#start) : offset;
    return extent.length >= length;
  }
}
