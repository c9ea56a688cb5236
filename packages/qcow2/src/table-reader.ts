/**
 * Reads tables whose place and length the image claims: in pieces, in order, and no further than the file.
 *
 * What lies past the end of the file reads as zeros, which every table of the format takes for "nothing
 * here", so nothing is allocated or read for it.
 */
import { DiskError, type HostSource } from '@strata/block';
import { entryHigh, entryLow, tableOf } from './entries.ts';

const PIECE = 1024 * 1024;

/** A part of a table. */
export interface Piece {
  /** Bytes from the start of the table; a multiple of the piece size. */
  readonly start: number;
  /** Valid until the next piece is asked for. */
  readonly bytes: Buffer;
}

/**
 * The bytes at `at`, at most `length` of them and none past the end of the file, in pieces of 1 MiB. The
 * last piece is filled up with zeros to a multiple of 8 bytes.
 */
export async function* piecesOf(file: HostSource, at: number, length: number): AsyncGenerator<Piece> {
  const end = Math.min(length, Math.max(0, file.size - at));
  const buffer = Buffer.alloc(Math.min(PIECE, Math.ceil(end / 8) * 8));
  for (let start = 0; start < end; start += PIECE) {
    const bytes = buffer.subarray(0, Math.min(PIECE, Math.ceil((end - start) / 8) * 8));
    await readAt(file, bytes, at + start);
    yield { start, bytes };
  }
}

/**
 * Hands the entries of a table of 8-byte words to `visit`, as halves, as far as the file goes. `before` is
 * called with the bytes of each piece.
 */
export async function forEachWord(
  file: HostSource,
  at: number,
  count: number,
  before: (bytes: number) => void,
  visit: (high: number, low: number, index: number) => void,
): Promise<void> {
  for await (const { start, bytes } of piecesOf(file, at, count * 8)) {
    before(bytes.length);
    const table = tableOf(bytes);
    const words = bytes.length / 8;
    for (let i = 0; i < words; i++) visit(entryHigh(table, i), entryLow(table, i), start / 8 + i);
  }
}

/** Fills `into` from `at`, with zeros past the end of the file. */
export async function readAt(file: HostSource, into: Buffer, at: number): Promise<void> {
  const given = Math.max(0, Math.min(into.length, file.size - at));
  const wanted = given === into.length ? into : into.subarray(0, given);
  if (given > 0 && !file.tryRead(wanted, at)) await file.read(wanted, at);
  into.fill(0, given);
}

/** A table of entries that differ in length, read from its start, which is a multiple of 8, to its end. */
export class EntryReader {
  readonly #file: HostSource;
  readonly #at: number;
  readonly #buffer = Buffer.alloc(65_536);
  #bufferStart = 0;
  #bufferLength = 0;
  #offset = 0;

  constructor(file: HostSource, at: number) {
    this.#file = file;
    this.#at = at;
  }

  /** Bytes from the start of the table. */
  get offset(): number {
    return this.#offset;
  }

  /** The next `length` bytes, 65,536 at most; a view that is valid until the next call. */
  async take(length: number): Promise<Buffer> {
    if (length > this.#buffer.length) throw new RangeError(`entry part of ${length} bytes`);
    if (this.#offset + length > this.#bufferStart + this.#bufferLength) {
      await readAt(this.#file, this.#buffer, this.#at + this.#offset);
      this.#bufferStart = this.#offset;
      this.#bufferLength = this.#buffer.length;
    }
    const start = this.#offset - this.#bufferStart;
    this.#offset += length;
    return this.#buffer.subarray(start, start + length);
  }

  /** Leaves out `length` bytes. */
  skip(length: number): void {
    this.#offset += length;
  }

  /** Goes on at the next multiple of 8 bytes. */
  align(): void {
    this.#offset = Math.ceil(this.#offset / 8) * 8;
  }
}

/**
 * A 64-bit field as a number.
 *
 * @throws {DiskError} limit above 2^53 - 1
 */
export function numberOf(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new DiskError('limit', `${what} is past 2^53`);
  return Number(value);
}
