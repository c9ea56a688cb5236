/**
 * Which bytes of a read have come, chunk by chunk: no byte twice, none outside, in the end all of them.
 *
 * Chunks nearly always come in order, and then one number is all there is. Out of order they are kept as ranges;
 * their number is bounded, because a server could send every second byte first.
 *
 * Spec: proto.md, "Request types", NBD_CMD_READ, "Structured replies"
 */
import { DiskError } from '@strata/block';

/** A server should use chunks of 512 bytes and more; these many smaller ones out of order are borne besides. */
const spareRanges = 64;
const usualChunk = 512;

/** The bytes 0 to `length` of one read. */
export class Coverage {
  readonly #length: number;
  /** Bytes 0 to here have come. */
  #prefix = 0;
  /** Start and end, start and end, ...: ascending, apart from each other and from the prefix. */
  #ranges: number[] = [];

  constructor(length: number) {
    this.#length = length;
  }

  /** True if every byte has come. */
  get complete(): boolean {
    return this.#prefix === this.#length;
  }

  /** @throws {DiskError} protocol if the range leaves the request or touches bytes that have come */
  add(offset: number, length: number): void {
    if (offset < 0 || length < 1 || offset + length > this.#length) {
      throw new DiskError(
        'protocol',
        `a chunk for bytes ${offset}+${length} answers a read of ${this.#length}`,
      );
    }
    if (offset === this.#prefix && this.#ranges.length === 0) this.#prefix += length;
    else this.#insert(offset, offset + length);
  }

  #insert(start: number, end: number): void {
    const ranges = this.#ranges;
    const index = this.#firstEndAfter(start);
    const next = ranges[index] ?? this.#length;
    const previousEnd = index === 0 ? this.#prefix : (ranges[index - 1] as number);
    if (start < previousEnd || (index < ranges.length && end > next)) {
      throw new DiskError('protocol', `a second chunk for bytes ${start}+${end - start} of the same read`);
    }
    const joinsNext = index < ranges.length && end === next;
    const joinsPrevious = index > 0 && start === previousEnd;
    if (joinsPrevious && joinsNext) ranges.splice(index - 1, 2);
    else if (joinsPrevious) ranges[index - 1] = end;
    else if (joinsNext) ranges[index] = start;
    else ranges.splice(index, 0, start, end);
    if (ranges[0] === this.#prefix) {
      this.#prefix = ranges[1] as number;
      ranges.splice(0, 2);
    }
    if (ranges.length / 2 > this.#length / usualChunk + spareRanges) {
      throw new DiskError(
        'protocol',
        `a read of ${this.#length} bytes comes in too many pieces out of order`,
      );
    }
  }

  /** The index of the first range that ends after `position`. */
  #firstEndAfter(position: number): number {
    let low = 0;
    let high = this.#ranges.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[2 * middle + 1] as number) > position) high = middle;
      else low = middle + 1;
    }
    return 2 * low;
  }
}
