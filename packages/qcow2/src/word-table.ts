/**
 * A table of 8-byte words that may take many clusters: the active L1 table and the refcount table.
 *
 * It is read on demand in pieces of 64 KiB, so that an image which claims a table of 32 MiB costs only what
 * is asked of it; pieces past the end of the file share one array of zeros. Changes stay in memory until a
 * barrier takes a copy of them, by sectors of 512 bytes. A table that outgrows its place is moved: it is then
 * written whole at the new place, and the header switched to it (barrier.ts keeps that order).
 */
import { DiskError, type HostSource } from '@strata/block';
import { entryHigh, entryLow, setEntry, tableOf } from './entries.ts';
import type { HostOffset } from './geometry.ts';

const WORDS_PER_PIECE = 8192;
const PIECE_BYTES = WORDS_PER_PIECE * 8;
const WORDS_PER_SECTOR = 64;
const SECTORS_PER_PIECE = WORDS_PER_PIECE / WORDS_PER_SECTOR;
/** Shared by all pieces of zeros; replaced before the first change. */
const ZEROS = tableOf(new Uint8Array(PIECE_BYTES));

/** Bytes that a barrier writes, and where. */
export interface TableWrite {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** The changes of a table up to a moment. */
export interface TakenWords {
  readonly writes: readonly TableWrite[];
  /** The table is at a new place, `writes` is all of it, and the header must be switched. */
  readonly moved: boolean;
  readonly sectors: readonly number[];
}

/** A table of words in memory. Indexes are below `entries`. */
export class WordTable {
  readonly #file: HostSource;
  readonly #pieces: (DataView | undefined)[] = [];
  readonly #loading = new Map<number, Promise<void>>();
  readonly #dirty = new Set<number>();
  #at: HostOffset;
  #entries: number;
  #moved = false;
  /** Counts how often the file's content became another table's. */
  #generation = 0;

  constructor(file: HostSource, at: HostOffset, entries: number) {
    this.#file = file;
    this.#at = at;
    this.#entries = entries;
  }

  /** Where the table is, or will be once the barrier has moved it. */
  get at(): HostOffset {
    return this.#at;
  }

  get entries(): number {
    return this.#entries;
  }

  get isDirty(): boolean {
    return this.#moved || this.#dirty.size > 0;
  }

  /** True if `high`, `low` and `set` may be asked about `index`. */
  isLoaded(index: number): boolean {
    return this.#pieces[Math.floor(index / WORDS_PER_PIECE)] !== undefined;
  }

  /** Bits 32-63 of a loaded word. */
  high(index: number): number {
    return entryHigh(this.#pieceOf(index), index % WORDS_PER_PIECE);
  }

  /** Bits 0-31 of a loaded word. */
  low(index: number): number {
    return entryLow(this.#pieceOf(index), index % WORDS_PER_PIECE);
  }

  /** How many words from `index` on are 0 for certain: it looks no further than one loaded piece. */
  zeroRun(index: number): number {
    const piece = this.#pieceOf(index);
    const start = index - (index % WORDS_PER_PIECE);
    const end = Math.min(this.#entries, start + WORDS_PER_PIECE);
    if (piece === ZEROS) return end - index;
    let next = index;
    while (next < end && entryHigh(piece, next - start) === 0 && entryLow(piece, next - start) === 0) next++;
    return next - index;
  }

  /** Changes a loaded word in memory. */
  set(index: number, high: number, low: number): void {
    const number = Math.floor(index / WORDS_PER_PIECE);
    let piece = this.#pieceOf(index);
    if (piece === ZEROS) {
      piece = tableOf(new Uint8Array(PIECE_BYTES));
      this.#pieces[number] = piece;
    }
    setEntry(piece, index % WORDS_PER_PIECE, high, low);
    this.#dirty.add(Math.floor(index / WORDS_PER_SECTOR));
  }

  /** Reads the piece that holds `index`, if it is not there yet. */
  async load(index: number): Promise<void> {
    if (index >= this.#entries) throw new RangeError(`word ${index} of a table of ${this.#entries}`);
    const number = Math.floor(index / WORDS_PER_PIECE);
    while (this.#pieces[number] === undefined) {
      let loading = this.#loading.get(number);
      if (loading === undefined) {
        loading = this.#read(number).finally(() => this.#loading.delete(number));
        this.#loading.set(number, loading);
      }
      await loading;
    }
  }

  /** Reads all of the table that is not there yet. */
  async loadAll(): Promise<void> {
    for (let index = 0; index < this.#entries; index += WORDS_PER_PIECE) await this.load(index);
  }

  /** Gives the loaded table a new place and at least as many entries; the new ones are 0. */
  move(at: HostOffset, entries: number): void {
    if (entries < this.#entries) throw new RangeError('a table moves to a place that is not smaller');
    this.#at = at;
    this.#entries = entries;
    this.#moved = true;
    for (let number = 0; number * WORDS_PER_PIECE < entries; number++) this.#pieces[number] ??= ZEROS;
  }

  /** Gives the table a new place and forgets all that it held: `entries` words of 0. */
  replace(at: HostOffset, entries: number): void {
    this.adopt(at, entries);
    this.move(at, entries);
  }

  /** Forgets all, changes too: the table is at `at` in the file, and will be read from there. */
  adopt(at: HostOffset, entries: number): void {
    this.#pieces.length = 0;
    this.#dirty.clear();
    this.#at = at;
    this.#entries = entries;
    this.#moved = false;
    this.#generation++;
  }

  /** Copies what changed since the last time, and counts it as unchanged from now on. */
  take(): TakenWords {
    const sectors = [...this.#dirty].sort((a, b) => a - b);
    const moved = this.#moved;
    const writes = moved ? this.#copyWhole() : this.#copySectors(sectors);
    this.#dirty.clear();
    this.#moved = false;
    return { writes, moved, sectors };
  }

  /** Takes back what could not be written. */
  restore(taken: TakenWords): void {
    for (const sector of taken.sectors) this.#dirty.add(sector);
    this.#moved ||= taken.moved;
  }

  #pieceOf(index: number): DataView {
    const piece = this.#pieces[Math.floor(index / WORDS_PER_PIECE)];
    if (piece === undefined || index >= this.#entries) throw new RangeError(`word ${index} is not loaded`);
    return piece;
  }

  async #read(number: number): Promise<void> {
    const start = number * PIECE_BYTES;
    const length = Math.min(PIECE_BYTES, this.#entries * 8 - start);
    if (this.#at + start >= this.#file.size) {
      this.#pieces[number] ??= ZEROS;
      return;
    }
    const bytes = new Uint8Array(PIECE_BYTES);
    const into = bytes.subarray(0, length);
    const generation = this.#generation;
    if (!this.#file.tryRead(into, this.#at + start)) await this.#file.read(into, this.#at + start);
    if (generation === this.#generation) this.#pieces[number] ??= tableOf(bytes);
  }

  #copyWhole(): TableWrite[] {
    const writes: TableWrite[] = [];
    for (let at = 0; at < this.#entries * 8; at += PIECE_BYTES) {
      const piece = this.#pieces[at / PIECE_BYTES];
      if (piece === undefined) throw new DiskError('io', 'a table was moved before it was read');
      const bytes = bytesOf(piece).subarray(0, Math.min(PIECE_BYTES, this.#entries * 8 - at));
      writes.push({ at: this.#at + at, bytes: piece === ZEROS ? bytes : bytes.slice() });
    }
    return writes;
  }

  /** Neighbouring sectors of one piece become one write; bytes past the last word are left alone. */
  #copySectors(sectors: readonly number[]): TableWrite[] {
    const writes: TableWrite[] = [];
    for (let i = 0; i < sectors.length; ) {
      const first = sectors[i] as number;
      let count = 1;
      while (sectors[i + count] === first + count && (first + count) % SECTORS_PER_PIECE !== 0) count++;
      const start = first * WORDS_PER_SECTOR;
      const end = Math.min(start + count * WORDS_PER_SECTOR, this.#entries);
      const within = (start % WORDS_PER_PIECE) * 8;
      const bytes = bytesOf(this.#pieceOf(start)).slice(within, within + (end - start) * 8);
      writes.push({ at: this.#at + start * 8, bytes });
      i += count;
    }
    return writes;
  }
}

function bytesOf(piece: DataView): Uint8Array {
  return new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
}
