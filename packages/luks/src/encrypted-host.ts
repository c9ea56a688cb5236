/**
 * A host file whose bytes are enciphered: read and written in the clear, sector by sector.
 *
 * A request that does not cover whole sectors reads those at its edges first, while it holds them, so that two
 * requests into one sector both survive. Zeros have to be written out: a hole does not decipher to zeros.
 */
import { DiskError, type HostFile, type HostSource, RangeLock, type ZeroOptions } from '@strata/block';
import { SECTOR } from './format.ts';
import type { SectorCipher } from './sector-cipher.ts';

/** Bytes of one write. */
const PIECE = 1 << 20;
const ZEROS = new Uint8Array(PIECE);
/** Buffers that are kept. */
const KEPT = 4;

/** Bytes that can be read in the clear. */
export interface ClearSource {
  /** Fills `into`. As `BlockSource.read`. */
  read(into: Uint8Array, offset: number): Promise<void>;
}

/** Bytes that can be written in the clear as well. */
export interface ClearFile extends ClearSource {
  write(from: Uint8Array, offset: number): Promise<void>;
  /** Writes zeros out. */
  zero(offset: number, length: number, how?: ZeroOptions): Promise<void>;
}

/** What is enciphered where. */
export interface Encrypted<File> {
  readonly file: File;
  readonly cipher: SectorCipher;
  /** Where the first byte is, in bytes of the file: sector 0 of the cipher. Whole sectors. */
  readonly start: number;
}

/** Reads `file` in the clear. The file stays the caller's. */
export function clearSource({ file, cipher, start }: Encrypted<HostSource>): ClearSource {
  return {
    async read(into, offset) {
      const from = offset - (offset % SECTOR);
      const end = Math.ceil((offset + into.length) / SECTOR) * SECTOR;
      const whole = end - from === into.length ? into : new Uint8Array(end - from);
      if (!file.tryRead(whole, start + from)) await file.read(whole, start + from);
      cipher.decrypt(whole, whole, from / SECTOR);
      if (whole !== into) into.set(whole.subarray(offset - from, offset - from + into.length));
    },
  };
}

/** Reads and writes `file` in the clear. The file stays the caller's. */
export function clearFile(encrypted: Encrypted<HostFile>): ClearFile {
  const { file, cipher, start } = encrypted;
  const source = clearSource(encrypted);
  const sectors = new RangeLock();
  const free: Uint8Array[] = [];

  /** Writes a piece that is held. */
  const writePiece = async (from: Uint8Array, offset: number): Promise<void> => {
    const first = offset - (offset % SECTOR);
    const end = Math.ceil((offset + from.length) / SECTOR) * SECTOR;
    const buffer = free.pop() ?? new Uint8Array(PIECE);
    const whole = buffer.subarray(0, end - first);
    try {
      if (whole.length === from.length) {
        cipher.encrypt(from, whole, first / SECTOR);
      } else {
        await readEdges(source, whole, first, offset, offset + from.length);
        whole.set(from, offset - first);
        cipher.encrypt(whole, whole, first / SECTOR);
      }
      await file.write(whole, start + first);
    } finally {
      if (free.length < KEPT) free.push(buffer);
    }
  };

  const write = (from: Uint8Array, offset: number): Promise<void> => {
    const first = offset - (offset % SECTOR);
    const end = Math.ceil((offset + from.length) / SECTOR) * SECTOR;
    return sectors.run(first, end - first, async () => {
      for (let at = offset; at < offset + from.length; ) {
        const most = PIECE - (at % SECTOR);
        const next = Math.min(at + most, offset + from.length);
        await writePiece(from.subarray(at - offset, next - offset), at);
        at = next;
      }
    });
  };

  return {
    ...source,
    write,
    async zero(offset, length, how) {
      if (how?.fast === true)
        throw new DiskError('not-supported', 'an encrypted disk cannot be zeroed without writing zeros');
      for (let done = 0; done < length; done += PIECE)
        await write(ZEROS.subarray(0, Math.min(PIECE, length - done)), offset + done);
    },
  };
}

/** Fills the first and the last sector of `whole` with what is there, unless the request covers them. */
async function readEdges(
  source: ClearSource,
  whole: Uint8Array,
  first: number,
  from: number,
  to: number,
): Promise<void> {
  if (whole.length <= 2 * SECTOR) return source.read(whole, first);
  const last = whole.length - SECTOR;
  if (from > first) await source.read(whole.subarray(0, SECTOR), first);
  if (to < first + whole.length) await source.read(whole.subarray(last), first + last);
}
