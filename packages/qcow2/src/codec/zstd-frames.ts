/**
 * Where the frames of a zstd stream end, told from their headers without decoding anything.
 *
 * An image records the length of a compressed cluster in sectors only, and what follows belongs to the next
 * one; decoders of whole frames want to know where theirs ends.
 *
 * Spec: RFC 8878, "Zstandard Frames" (3.1.1) and "Skippable Frames" (3.1.2).
 */

/** A frame inside a stream. */
export interface Frame {
  /** Skippable frames hold nothing. */
  readonly kind: 'data' | 'skippable';
  /** The first byte behind it. */
  readonly end: number;
  /** Bytes that it says it holds; undefined if it does not say. */
  readonly contentSize: number | undefined;
}

const MAGIC = 0xfd2f_b528;
const SKIPPABLE = 0x184d_2a50;
/** Decoders refuse frames that refer further back than this, unless they are told otherwise; QEMU does not. */
const MAX_WINDOW = 2 ** 27 + 1;
const RLE = 1;
const RESERVED = 3;

/** The frame that starts at `at`; undefined if there is no whole one that a decoder would take. */
export function frameAt(stream: Uint8Array, at: number): Frame | undefined {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  if (at + 8 > stream.length) return undefined;
  const magic = view.getUint32(at, true);
  if ((magic & 0xffff_fff0) >>> 0 === SKIPPABLE) {
    const end = at + 8 + view.getUint32(at + 4, true);
    return end <= stream.length ? { kind: 'skippable', end, contentSize: 0 } : undefined;
  }
  return magic === MAGIC ? dataFrame(view, at + 4) : undefined;
}

function dataFrame(view: DataView, at: number): Frame | undefined {
  const descriptor = view.getUint8(at);
  const isSingle = (descriptor & 0x20) !== 0;
  const windowAt = at + 1;
  // A code of 0 to 3 stands for 0, 1, 2 or 4 bytes of the dictionary's number, and for 0 (or 1), 2, 4 or 8 of the size.
  const dictionary = descriptor & 3;
  const contentAt = windowAt + (isSingle ? 0 : 1) + (dictionary === 3 ? 4 : dictionary);
  const sizeCode = descriptor >>> 6;
  const contentBytes = sizeCode === 0 ? (isSingle ? 1 : 0) : 2 ** sizeCode;
  const blocksAt = contentAt + contentBytes;
  if (blocksAt > view.byteLength || (descriptor & 0x08) !== 0) return undefined;
  const contentSize = readContentSize(view, contentAt, contentBytes);
  const window = isSingle ? (contentSize as number) : windowSize(view.getUint8(windowAt));
  if (window > MAX_WINDOW) return undefined;
  const blocksEnd = skipBlocks(view, blocksAt);
  const end = blocksEnd === undefined ? undefined : blocksEnd + ((descriptor & 0x04) === 0 ? 0 : 4);
  return end === undefined || end > view.byteLength ? undefined : { kind: 'data', end, contentSize };
}

function readContentSize(view: DataView, at: number, bytes: number): number | undefined {
  if (bytes === 1) return view.getUint8(at);
  if (bytes === 2) return view.getUint16(at, true) + 256;
  if (bytes === 4) return view.getUint32(at, true);
  if (bytes === 8) return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  return undefined;
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >>> 3));
  return base + (base / 8) * (descriptor & 7);
}

function skipBlocks(view: DataView, from: number): number | undefined {
  for (let at = from; at + 3 <= view.byteLength; ) {
    const header = view.getUint16(at, true) + view.getUint8(at + 2) * 0x1_0000;
    const type = (header >>> 1) & 3;
    if (type === RESERVED) return undefined;
    at += 3 + (type === RLE ? 1 : header >>> 3);
    if ((header & 1) !== 0) return at;
  }
  return undefined;
}
