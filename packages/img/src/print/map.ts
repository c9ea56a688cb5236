/**
 * A chain's answers as `qemu-img map` prints them: the one place that speaks its dialect of depth.
 *
 * Here the top is 0. A range that nobody wrote is absent, at the depth of the deepest image that reaches it; so is
 * the range past the end of a shorter backing image, one depth above that image. A raw image ends at a full
 * sector of 512 bytes. Bytes that lie in a file have an offset there; `data` with `zero` are clusters whose file
 * has a hole. Neighbours that are alike and contiguous are one entry.
 */
import type { Extent } from '@strata/block';
import type { PastEnd, Resolution } from '@strata/chain';

/** One line of the map. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  /** Where the bytes lie in the file of the image at `depth`. */
  readonly offset: number | undefined;
}

/** What is asked of a chain that is to be mapped. */
export interface MappedChain {
  /** Top first. */
  readonly images: readonly MappedImage[];
  resolve(offset: number, limit: number): Promise<Resolution>;
  tryResolve(offset: number, limit: number): Resolution | undefined;
}

/** What is asked of one image of the chain. */
export interface MappedImage {
  readonly format: { readonly name: string };
  readonly layer: { readonly size: number };
}

const sector = 512;

/** The bytes of an image as `map` counts them: a raw one is padded to a full sector. */
export function mappedSize({ format, layer }: MappedImage): number {
  return format.name === 'raw' ? Math.ceil(layer.size / sector) * sector : layer.size;
}

/**
 * Hands the entries from `start` to `end` to `emit`, merged and in order. An empty range has none.
 *
 * What lies in memory is walked without waiting: an image may have a million entries.
 */
export async function walkMap(
  chain: MappedChain,
  start: number,
  end: number,
  emit: (entry: MapEntry) => void,
): Promise<void> {
  let current: MapEntry | undefined;
  for (let at = start; at < end; ) {
    const found = chain.tryResolve(at, end - at) ?? (await chain.resolve(at, end - at));
    const next = entryOf(chain.images, at, found) ?? (await askFile(chain.images, at, found));
    at += next.length;
    if (current === undefined) current = next;
    else if (areOne(current, next)) current = { ...current, length: current.length + next.length };
    else {
      emit(current);
      current = next;
    }
  }
  if (current !== undefined) emit(current);
}

/** The entry of an answer. Undefined where only the file can tell, and not at once. */
function entryOf(images: readonly MappedImage[], start: number, found: Resolution): MapEntry | undefined {
  const { layer: depth, mapping } = found;
  const { length } = mapping;
  const absent = { start, length, depth, present: false, zero: true, data: false, offset: undefined };
  switch (mapping.kind) {
    case 'below':
      return { ...absent, offset: mapping.at };
    case 'past-end':
      return pastEnd(images[depth], start, depth, mapping);
    case 'zero':
      return { ...absent, present: true, offset: mapping.at };
    case 'encoded':
      return { ...absent, present: true, zero: false, data: true };
    case 'raw': {
      const plain = { ...absent, present: true, zero: false, data: true, offset: mapping.at };
      if (!mapping.sparse) return plain;
      const extent = mapping.device.tryExtentAt(mapping.at, length);
      return extent && inFile(plain, extent, images[depth]?.format.name === 'raw');
    }
  }
}

async function askFile(
  images: readonly MappedImage[],
  start: number,
  { layer: depth, mapping }: Resolution,
): Promise<MapEntry> {
  if (mapping.kind !== 'raw') throw new TypeError(`a file is asked about ${mapping.kind}`);
  const { device, at, length } = mapping;
  const plain = { start, length, depth, present: true, zero: false, data: true, offset: at };
  return inFile(plain, await device.extentAt(at, length), images[depth]?.format.name === 'raw');
}

function pastEnd(
  image: MappedImage | undefined,
  start: number,
  depth: number,
  { length, at }: PastEnd,
): MapEntry {
  const zeros = { start, length, zero: true, data: false };
  const padding = image === undefined ? 0 : mappedSize(image) - start;
  // The file ends inside a sector, and the sector counts as the image's own.
  if (padding > 0)
    return { ...zeros, length: Math.min(length, padding), depth, present: true, offset: start };
  return { ...zeros, depth: Math.max(depth - 1, 0), present: false, offset: at };
}

/** What a file says of its own bytes. An export of a chain knows more than a file: its depths count on from ours. */
function inFile(plain: MapEntry, { length, kind, depth }: Extent, isRaw: boolean): MapEntry {
  if (kind === 'data' || kind === 'compressed') return { ...plain, length, depth: plain.depth + depth - 1 };
  const zeros = { ...plain, length, zero: true, data: !isRaw };
  if (kind === 'hole') return { ...zeros, present: false, data: false, offset: undefined };
  return { ...zeros, depth: plain.depth + depth - 1 };
}

function areOne(a: MapEntry, b: MapEntry): boolean {
  const alike = a.depth === b.depth && a.present === b.present && a.zero === b.zero && a.data === b.data;
  if (!alike || (a.offset === undefined) !== (b.offset === undefined)) return false;
  return a.offset === undefined || a.offset + a.length === b.offset;
}

/** An entry as an object of the JSON form, which is printed one object a line. */
export function mapJson(entry: MapEntry): string {
  const { start, length, depth, present, zero, data, offset } = entry;
  const place = offset === undefined ? '' : `, "offset": ${offset}`;
  return `{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, "zero": ${zero}, "data": ${data}${place}}`;
}

/** The entry that stands for an empty map. */
export function emptyEntry(start: number): MapEntry {
  return { start, length: 0, depth: 0, present: false, zero: false, data: false, offset: undefined };
}

/** The head of the form for people. */
export const mapHead = `${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File\n`;

/** An entry as a line for people, who are shown data with a place in a file only. */
export function mapLine({ start, length, offset }: MapEntry, path: string): string {
  return `${column(start)}${column(length)}${column(offset ?? 0)}${path}\n`;
}

/** Hexadecimal as `%#-16x` prints it: 0 has no prefix. */
function column(value: number): string {
  return (value === 0 ? '0' : `0x${value.toString(16)}`).padEnd(16);
}
