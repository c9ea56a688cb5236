/**
 * Buffers for bytes on their way from one place to another, used again and again: fresh memory costs a page
 * fault for every 4 KiB of it.
 */

/** Bytes of one scratch buffer. */
export const SCRATCH_BYTES = 256 * 1024;

/** Buffers that are given back are kept, up to this many. */
const KEPT = 8;

/** The scratch buffers of one image. */
export class Scratch {
  readonly #bytes: number;
  readonly #free: Uint8Array[] = [];

  /** @param bytes of each buffer; `SCRATCH_BYTES` if not given */
  constructor(bytes = SCRATCH_BYTES) {
    this.#bytes = bytes;
  }

  /** Runs `use` with a buffer of unknown content, which is its own until it settles. */
  async with(use: (buffer: Uint8Array) => Promise<void>): Promise<void> {
    const buffer = this.#free.pop() ?? new Uint8Array(this.#bytes);
    try {
      await use(buffer);
    } finally {
      if (this.#free.length < KEPT) this.#free.push(buffer);
    }
  }
}
