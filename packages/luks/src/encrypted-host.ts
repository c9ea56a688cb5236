/**
 * A host file whose bytes are enciphered, as one that is read and written in the clear.
 *
 * A request that does not cover whole sectors reads those at its edges first, while it holds them, so that two
 * requests into one sector both survive. Zeros have to be written out: a hole does not decipher to zeros, so
 * all of the file counts as data.
 */
import {
  type Capabilities,
  DiskError,
  type Extent,
  type HostFile,
  type HostSource,
  RangeLock,
} from '@strata/block';
import { SECTOR } from './format.ts';
import type { SectorCipher } from './sector-cipher.ts';

/** Bytes of one write. */
const PIECE = 1 << 20;
const ZEROS = new Uint8Array(PIECE);
/** Buffers that are kept. */
const KEPT = 4;

/** What is enciphered where. */
export interface Encrypted<Host> {
  readonly file: Host;
  readonly cipher: SectorCipher;
  /** Where in the file its first sector, number 0, begins. It may lie before the file if nobody asks for it. */
  readonly start: number;
}

/** The whole sectors around a range. */
function sectorsAround(offset: number, length: number): { readonly first: number; readonly end: number } {
  const first = offset - (offset % SECTOR);
  return { first, end: Math.ceil((offset + length) / SECTOR) * SECTOR };
}

/** `file` in the clear. Disposing of it leaves the file open. */
export function clearSource({ file, cipher, start }: Encrypted<HostSource>): HostSource {
  const extentAt = (offset: number, limit: number): Extent => ({
    offset,
    length: limit,
    kind: 'data',
    depth: 1,
  });
  return {
    get size() {
      return Math.max(0, file.size - start);
    },
    path: file.path,
    allocated: () => file.allocated(),
    async read(into, offset) {
      const { first, end } = sectorsAround(offset, into.length);
      const whole = end - first === into.length ? into : new Uint8Array(end - first);
      if (!file.tryRead(whole, start + first)) await file.read(whole, start + first);
      cipher.decrypt(whole, whole, first / SECTOR);
      if (whole !== into) into.set(whole.subarray(offset - first, offset - first + into.length));
    },
    tryRead(into, offset) {
      const { first, end } = sectorsAround(offset, into.length);
      if (end - first !== into.length || !file.tryRead(into, start + first)) return false;
      cipher.decrypt(into, into, first / SECTOR);
      return true;
    },
    extentAt: async (offset, limit) => extentAt(offset, limit),
    tryExtentAt: extentAt,
    [Symbol.asyncDispose]: async () => {},
  };
}

const CAPS: Capabilities = Object.freeze({ blockSize: SECTOR, zero: 'emulated', discard: 'native' });

/** `file` in the clear, for writing too. Disposing of it leaves the file open. */
export function clearFile(encrypted: Encrypted<HostFile>): HostFile {
  const { file, cipher, start } = encrypted;
  const source = clearSource(encrypted);
  const sectors = new RangeLock();
  const free: Uint8Array[] = [];

  /** Writes at most a piece into sectors that are held. */
  const writePiece = async (from: Uint8Array, offset: number): Promise<void> => {
    const { first, end } = sectorsAround(offset, from.length);
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
    const { first, end } = sectorsAround(offset, from.length);
    return sectors.run(first, end - first, async () => {
      for (let at = offset; at < offset + from.length; ) {
        const next = Math.min(at + PIECE - (at % SECTOR), offset + from.length);
        await writePiece(from.subarray(at - offset, next - offset), at);
        at = next;
      }
    });
  };

  return {
    ...source,
    get size() {
      return source.size;
    },
    caps: CAPS,
    write,
    async zero(offset, length, how) {
      if (how?.fast === true)
        throw new DiskError('not-supported', 'an encrypted disk cannot be zeroed without writing zeros');
      for (let done = 0; done < length; done += PIECE)
        await write(ZEROS.subarray(0, Math.min(PIECE, length - done)), offset + done);
    },
    discard: (offset, length) => file.discard(start + offset, length),
    flush: () => file.flush(),
    truncate: (size) => file.truncate(start + size),
  };
}

/** Fills the first and the last sector of `whole` with what is there, unless the request covers them. */
async function readEdges(
  source: HostSource,
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
