/**
 * Buffers that are used again: a fresh buffer of 256 KiB costs its page faults every time.
 *
 * Sizes are powers of two with some room on top, so that a request of 256 KiB and its header fit into a
 * buffer of the class of 256 KiB. Each buffer has an ArrayBuffer of its own that lives as long as the pool
 * does, so that a device may remember its address.
 */

const smallestClass = 4096;
/** On top of the power of two: the headers of a reply. */
const headerRoom = 1024;

/** The length of the buffer that a pool gives where `length` bytes are asked for. */
export function pooledLength(length: number): number {
  let size = smallestClass;
  while (size + headerRoom < length) size *= 2;
  return size + headerRoom;
}

/** Lends buffers and takes them back. */
export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  readonly #keep: number;
  #kept = 0;

  /** @param keep bytes of unused buffers that are kept; what is above goes to the garbage collector */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** A buffer of at least `length` bytes with anything in it. The borrower gives it back once, or forgets it. */
  take(length: number): Buffer {
    const size = pooledLength(length);
    const buffer = this.#free.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size);
    this.#kept -= buffer.length;
    return buffer;
  }

  /** Takes back a buffer that `take` gave. It must not be used any more, not even by a write under way. */
  give(buffer: Buffer): void {
    if (this.#kept + buffer.length > this.#keep) return;
    this.#kept += buffer.length;
    const free = this.#free.get(buffer.length);
    if (free === undefined) this.#free.set(buffer.length, [buffer]);
    else free.push(buffer);
  }
}
