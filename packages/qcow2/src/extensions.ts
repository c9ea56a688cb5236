/**
 * The header extensions: typed records between the fixed header and the backing file's name.
 *
 * What we do not know is kept byte for byte, and so is the feature name table, which may name features that
 * we do not know. The order of writing is QEMU's; several unknown extensions keep theirs.
 *
 * Spec: qcow2.txt, "Header extensions" and the sections after it, to "Full disk encryption header pointer".
 */
import { DiskError } from '@strata/block';
import { Autoclear, Encryption, MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAPS } from './format.ts';
import type { HostOffset } from './geometry.ts';
import { hostOffset } from './geometry.ts';

const Type = {
  end: 0,
  backingFormat: 0xe2792aca,
  dataFile: 0x44415441,
  encryption: 0x0537be77,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  /** Ours: covers bytes that mean nothing while a header is rewritten. */
  filler: 0x53_74_52_66,
} as const;

/** QEMU keeps the backing format in 16 bytes, the last of them 0. */
const MAX_BACKING_FORMAT = 15;
const FEATURE_NAME_BYTES = 48;

/** Where the bitmap directory is. */
export interface BitmapsExtension {
  readonly count: number;
  readonly directoryAt: HostOffset;
  readonly directorySize: number;
}

/** An extension that we do not know, as it was found. */
export interface UnknownExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** All that an image's extensions say. */
export interface Extensions {
  /** The format of the backing file, as recorded. */
  readonly backingFormat: string | undefined;
  /** The name of the external data file: bytes of a host name, untrusted. */
  readonly dataFile: Uint8Array | undefined;
  /** Where the LUKS header is. */
  readonly encryption: { readonly at: HostOffset; readonly length: number } | undefined;
  /** The feature name table as found; `featureName` reads it. */
  readonly featureNames: Uint8Array | undefined;
  /** Undefined if there is none, or if the image was written by a program that did not maintain it. */
  readonly bitmaps: BitmapsExtension | undefined;
  /** True: a bitmaps extension is there, but its autoclear bit is not; the bitmaps must not be trusted. */
  readonly staleBitmaps: boolean;
  readonly unknown: readonly UnknownExtension[];
}

/** An image without extensions. */
export const noExtensions: Extensions = Object.freeze({
  backingFormat: undefined,
  dataFile: undefined,
  encryption: undefined,
  featureNames: undefined,
  bitmaps: undefined,
  staleBitmaps: false,
  unknown: [],
});

/** What the fixed header says and the extensions are judged by. */
export interface ExtensionContext {
  readonly clusterSize: number;
  readonly cryptMethod: number;
  readonly autoclear: bigint;
}

const SPEC = 'qcow2.txt, "Header extensions"';
const corrupt = (message: string, offset: number): DiskError =>
  new DiskError('corrupt', message, { offset, spec: SPEC });

/**
 * The extensions in `header`, the first cluster of the file, from `start` up to `end` at most. The result
 * holds no views of `header`.
 *
 * @throws {DiskError} corrupt, limit
 */
export function parseExtensions(
  header: Buffer,
  start: number,
  end: number,
  context: ExtensionContext,
): Extensions {
  const found: { -readonly [K in keyof Extensions]: Extensions[K] } = { ...noExtensions };
  const unknown: UnknownExtension[] = [];
  for (const { type, at, data } of records(header, start, end)) {
    switch (type) {
      case Type.backingFormat:
        if (data.length > MAX_BACKING_FORMAT) {
          const sentence = `ERROR: ext_backing_format: len=${data.length} too large (>=16)`;
          throw corrupt(sentence, at);
        }
        found.backingFormat = textOf(data);
        break;
      case Type.dataFile:
        found.dataFile = data;
        break;
      case Type.encryption:
        found.encryption = parseEncryption(Buffer.from(data.buffer), at, context);
        break;
      case Type.featureNames:
        found.featureNames = data;
        break;
      case Type.bitmaps:
        found.bitmaps = parseBitmaps(Buffer.from(data.buffer), at, context);
        found.staleBitmaps = found.bitmaps === undefined;
        break;
      case Type.filler:
        break;
      default:
        unknown.push({ type, data });
    }
  }
  return { ...found, unknown };
}

function* records(
  header: Buffer,
  start: number,
  end: number,
): Generator<{ type: number; at: number; data: Uint8Array<ArrayBuffer> }> {
  let at = start;
  while (at < end) {
    // Past the bytes that are there the file reads as zeros, which is the end mark.
    if (at + 8 > header.length) {
      if (at + 8 > end) throw corrupt('Header extension too large', at);
      return;
    }
    const type = header.readUInt32BE(at);
    const length = header.readUInt32BE(at + 4);
    if (at + 8 > end || length > end - at - 8) throw corrupt('Header extension too large', at);
    if (type === Type.end) return;
    yield { type, at, data: bytesAt(header, at + 8, length) };
    at += 8 + Math.ceil(length / 8) * 8;
  }
}

/** A copy of `length` bytes at `at`; those past the end of `bytes` are zeros, as past the end of a file. */
export function bytesAt(bytes: Uint8Array, at: number, length: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(length);
  copy.set(bytes.subarray(at, at + length));
  return copy;
}

/** Text up to the first NUL, as QEMU's C strings end there. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(bytes.buffer, bytes.byteOffset, end < 0 ? bytes.byteLength : end).toString('utf8');
}

function parseEncryption(data: Buffer, at: number, context: ExtensionContext): Extensions['encryption'] {
  if (context.cryptMethod !== Encryption.luks)
    throw corrupt('CRYPTO header extension only expected with LUKS encryption method', at);
  if (data.length !== 16)
    throw corrupt(`CRYPTO header extension size ${data.length}, but expected size 16`, at);
  const offset = data.readBigUInt64BE(0);
  const length = data.readBigUInt64BE(8);
  if (offset % BigInt(context.clusterSize) !== 0n) {
    const sentence = `Encryption header offset '${offset}' is not a multiple of cluster size '${context.clusterSize}'`;
    throw corrupt(sentence, at);
  }
  if (offset + length > BigInt(Number.MAX_SAFE_INTEGER))
    throw new DiskError('limit', 'Encryption header reaches past 2^53', { offset: at, spec: SPEC });
  return { at: hostOffset(Number(offset)), length: Number(length) };
}

function parseBitmaps(data: Buffer, at: number, context: ExtensionContext): BitmapsExtension | undefined {
  if (data.length !== 24) throw corrupt('bitmaps_ext: Invalid extension length', at);
  if ((context.autoclear & Autoclear.bitmaps) === 0n) return undefined;
  const count = data.readUInt32BE(0);
  const directorySize = data.readBigUInt64BE(8);
  const directoryAt = data.readBigUInt64BE(16);
  if (data.readUInt32BE(4) !== 0) throw corrupt('bitmaps_ext: Reserved field is not zero', at);
  if (count > MAX_BITMAPS) {
    const sentence = `bitmaps_ext: Image has ${count} bitmaps, exceeding the QEMU supported maximum of ${MAX_BITMAPS}`;
    throw new DiskError('limit', sentence, { offset: at });
  }
  if (count === 0) throw corrupt('found bitmaps extension with zero bitmaps', at);
  if (directoryAt % BigInt(context.clusterSize) !== 0n || directoryAt > BigInt(Number.MAX_SAFE_INTEGER))
    throw corrupt('bitmaps_ext: invalid bitmap directory offset', at);
  if (directorySize > BigInt(MAX_BITMAP_DIRECTORY_BYTES)) {
    const sentence = `bitmaps_ext: bitmap directory size (${directorySize}) exceeds the maximum supported size (${MAX_BITMAP_DIRECTORY_BYTES})`;
    throw new DiskError('limit', sentence, { offset: at });
  }
  return { count, directoryAt: hostOffset(Number(directoryAt)), directorySize: Number(directorySize) };
}

/**
 * What the table calls the feature, if it names it. `kind` is 0 for incompatible, 1 for compatible, 2 for
 * autoclear features. QEMU stops at the first entry without a name, and so do we.
 */
export function featureName(table: Uint8Array | undefined, kind: 0 | 1 | 2, bit: number): string | undefined {
  if (table === undefined) return undefined;
  for (let at = 0; at + FEATURE_NAME_BYTES <= table.length; at += FEATURE_NAME_BYTES) {
    const name = textOf(table.subarray(at + 2, at + FEATURE_NAME_BYTES));
    if (name === '') return undefined;
    if (table[at] === kind && table[at + 1] === bit) return name;
  }
  return undefined;
}

/** The feature name table that QEMU 7.2 writes into new images. */
export function qemuFeatureNames(): Uint8Array {
  const rows: readonly (readonly [kind: number, bit: number, name: string])[] = [
    [0, 0, 'dirty bit'],
    [0, 1, 'corrupt bit'],
    [0, 2, 'external data file'],
    [0, 3, 'compression type'],
    [0, 4, 'extended L2 entries'],
    [1, 0, 'lazy refcounts'],
    [2, 0, 'bitmaps'],
    [2, 1, 'raw external data'],
  ];
  const table = Buffer.alloc(rows.length * FEATURE_NAME_BYTES);
  rows.forEach(([kind, bit, name], index) => {
    table[index * FEATURE_NAME_BYTES] = kind;
    table[index * FEATURE_NAME_BYTES + 1] = bit;
    table.write(name, index * FEATURE_NAME_BYTES + 2, 'latin1');
  });
  return table;
}

/** The first 8 bytes of an extension that covers `length` bytes without meaning. A multiple of 8. */
export function fillerExtension(length: number): Buffer {
  const record = Buffer.alloc(8);
  record.writeUInt32BE(Type.filler, 0);
  record.writeUInt32BE(length, 4);
  return record;
}

/** The extensions as bytes, the end mark included. A stale bitmaps extension is left out, as QEMU does. */
export function encodeExtensions(extensions: Extensions): Buffer {
  const parts: Buffer[] = [];
  const add = (type: number, data: Uint8Array): void => {
    const record = Buffer.alloc(8 + Math.ceil(data.length / 8) * 8);
    record.writeUInt32BE(type, 0);
    record.writeUInt32BE(data.length, 4);
    record.set(data, 8);
    parts.push(record);
  };
  const { backingFormat, dataFile, encryption, featureNames, bitmaps, unknown } = extensions;
  if (backingFormat !== undefined) add(Type.backingFormat, Buffer.from(backingFormat, 'utf8'));
  if (dataFile !== undefined) add(Type.dataFile, dataFile);
  if (encryption !== undefined) {
    const data = Buffer.alloc(16);
    data.writeBigUInt64BE(BigInt(encryption.at), 0);
    data.writeBigUInt64BE(BigInt(encryption.length), 8);
    add(Type.encryption, data);
  }
  if (featureNames !== undefined) add(Type.featureNames, featureNames);
  if (bitmaps !== undefined) {
    const data = Buffer.alloc(24);
    data.writeUInt32BE(bitmaps.count, 0);
    data.writeBigUInt64BE(BigInt(bitmaps.directorySize), 8);
    data.writeBigUInt64BE(BigInt(bitmaps.directoryAt), 16);
    add(Type.bitmaps, data);
  }
  for (const { type, data } of unknown) add(type, data);
  add(Type.end, new Uint8Array(0));
  return Buffer.concat(parts);
}
