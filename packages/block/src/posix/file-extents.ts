/**
 * The extents of a file: what is data and what is a hole.
 *
 * The run of data that was found last is remembered, so that a server which asks before every read seldom
 * asks the kernel. To call a hole data is right; to call data a hole is not: so holes are never remembered.
 */
import type { Extent } from '../device.ts';
import { runAt } from './holes.ts';
import type { Libc } from './libc.ts';

/** Tells extents of one open file. */
export class FileExtents {
  readonly #libc: Libc | undefined;
  readonly #fd: number;
  /** False once the file system has said that it does not tell: then everything is data. */
  #tells: boolean;
  #data = { start: 0, end: 0 };

  constructor(libc: Libc | undefined, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
    this.#tells = libc !== undefined;
  }

  /** True if the answer for `offset` needs no call. */
  knows(offset: number): boolean {
    return offset >= this.#data.start && offset < this.#data.end;
  }

  /** Something may have become a hole. */
  forget(): void {
    this.#data = { start: 0, end: 0 };
  }

  /** The extent at `offset` of a file of `size` bytes; past its end are zeros. @throws {DiskError} io */
  at(offset: number, limit: number, size: number): Extent {
    const hole = offset >= size ? Number.POSITIVE_INFINITY : this.#holeEnd(offset, size);
    if (hole !== undefined) return { offset, length: Math.min(hole - offset, limit), kind: 'zero', depth: 1 };
    const end = Math.min(this.#data.end, size);
    return { offset, length: Math.min(end - offset, limit), kind: 'data', depth: 1 };
  }

  /** Where the hole at `offset` ends; undefined if data is there, whose run is then known. */
  #holeEnd(offset: number, size: number): number | undefined {
    if (this.knows(offset)) return undefined;
    const run = this.#libc && this.#tells ? runAt(this.#libc, this.#fd, offset, size) : undefined;
    this.#tells = run !== undefined;
    if (run?.data === false) return run.end;
    this.#data = { start: offset, end: run?.end ?? size };
    return undefined;
  }
}
