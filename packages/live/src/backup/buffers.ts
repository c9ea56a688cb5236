/** Memory for copies, used again: a fresh buffer for each would cost more than the copy. */

/** As much as is kept for later. */
const mostKept = 16 << 20;

/** Buffers by their size, a power of two. */
export class Buffers {
  readonly #free = new Map<number, Uint8Array[]>();
  #kept = 0;

  /** Runs `use` with a buffer of exactly `length` bytes, whose content is anything. */
  async using<T>(length: number, use: (buffer: Uint8Array) => Promise<T>): Promise<T> {
    const size = 2 ** Math.ceil(Math.log2(Math.max(length, 4096)));
    const kept = this.#free.get(size)?.pop();
    if (kept !== undefined) this.#kept -= size;
    const buffer = kept ?? Buffer.allocUnsafeSlow(size);
    try {
      return await use(buffer.subarray(0, length));
    } finally {
      if (this.#kept + size <= mostKept) {
        this.#kept += size;
        const list = this.#free.get(size);
        if (list === undefined) this.#free.set(size, [buffer]);
        else list.push(buffer);
      }
    }
  }
}
