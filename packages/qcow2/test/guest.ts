/** The guest's view of one layer in tests: reads through `map`, and random changes that an array mirrors. */
import assert from 'node:assert/strict';
import { type BlockSource, type Layer, type LayerSource, MemoryDevice } from '@strata/block';
import type { MapEntry } from '@strata/testkit';
import type { Random } from './random.ts';

/** What lies under a layer that stands alone. */
export function nothingBelow(size: number): BlockSource {
  return new MemoryDevice(size);
}

/** Reads a range as a chain of this layer and `below` would. */
export async function readGuest(
  layer: LayerSource,
  offset: number,
  length: number,
  below: BlockSource = nothingBelow(layer.size),
): Promise<Uint8Array> {
  const all = new Uint8Array(length).fill(0xee);
  for (let done = 0; done < length; ) {
    const at = offset + done;
    const mapping = layer.tryMap(at, length - done) ?? (await layer.map(at, length - done));
    const into = all.subarray(done, done + mapping.length);
    if (mapping.kind === 'raw') await mapping.device.read(into, mapping.at);
    else if (mapping.kind === 'encoded') await layer.readEncoded(into, at);
    else if (mapping.kind === 'below') await below.read(into, at);
    else into.fill(0);
    done += mapping.length;
  }
  return all;
}

/** A change of the guest's disk. */
export type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number; readonly allocate: boolean }
  | { readonly kind: 'discard'; readonly offset: number; readonly length: number }
  | { readonly kind: 'flush' };

/** A compressed write of whole clusters. */
export interface CompressedWrite {
  readonly kind: 'compress';
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A random change of a disk of `size` bytes. Ranges like to start and end at multiples of `unit`. */
export function randomChange(random: Random, size: number, unit: number, most = 4 * unit): Change {
  const kind = random.pick(['write', 'write', 'write', 'write', 'zero', 'zero', 'discard', 'flush'] as const);
  if (kind === 'flush') return { kind };
  const point = (limit: number): number =>
    random.below(3) === 0 ? random.below(limit + 1) : Math.floor(random.below(limit + 1) / unit) * unit;
  const offset = Math.min(point(size - 1), size - 1);
  const length = Math.max(1, Math.min(point(most) || unit, size - offset));
  if (kind === 'zero') return { kind, offset, length, allocate: random.below(3) === 0 };
  if (kind === 'discard') return { kind, offset, length };
  return { kind, offset, bytes: new Uint8Array(length).fill(1 + random.below(255)) };
}

/** A random compressed write of whole clusters; some of the bytes do not compress. */
export function randomCompressedWrite(random: Random, size: number, clusterSize: number): CompressedWrite {
  const offset = random.below(Math.ceil(size / clusterSize)) * clusterSize;
  const length = Math.min((1 + random.below(5)) * clusterSize, size - offset);
  const bytes = new Uint8Array(length).fill(1 + random.below(255));
  for (let at = 0; at < length; at += clusterSize) {
    if (random.below(3) > 0) continue;
    const end = Math.min(at + clusterSize, length);
    for (let i = at; i < end; i++) bytes[i] = random.below(256);
  }
  return { kind: 'compress', offset, bytes };
}

/** Applies a change to a layer. */
export function apply(layer: Layer, change: Change | CompressedWrite, below: BlockSource): Promise<void> {
  switch (change.kind) {
    case 'write':
      return layer.write(change.bytes, change.offset, below);
    case 'compress':
      assert.ok(layer.writeCompressed);
      return layer.writeCompressed(change.bytes, change.offset, below);
    case 'zero':
      return layer.zero(change.offset, change.length, below, { allocate: change.allocate });
    case 'discard':
      return layer.discard(change.offset, change.length);
    case 'flush':
      return layer.flush();
  }
}

/**
 * Applies a change to the array that mirrors a layer. What a discard leaves is up to the layer, as old bytes
 * or zeros, so it is read back from `seen`, what the layer shows after the change; anything else is a fault
 * that the comparison finds.
 */
export function mirror(oracle: Uint8Array, change: Change | CompressedWrite, seen: Uint8Array): void {
  if (change.kind === 'write' || change.kind === 'compress') oracle.set(change.bytes, change.offset);
  else if (change.kind === 'zero') oracle.fill(0, change.offset, change.offset + change.length);
  else if (change.kind === 'discard')
    for (let at = change.offset; at < change.offset + change.length; at++) if (seen[at] === 0) oracle[at] = 0;
}

/** What `qemu-img map --output=json` says of an image that stands alone. */
export async function mapOf(
  layer: LayerSource,
  { withoutOffsets = false }: { readonly withoutOffsets?: boolean } = {},
): Promise<MapEntry[]> {
  const entries: (Omit<MapEntry, 'length'> & { length: number })[] = [];
  for (let at = 0; at < layer.size; ) {
    const mapping = await layer.map(at, layer.size - at);
    let { length } = mapping;
    let isZero = mapping.kind === 'zero' || mapping.kind === 'below';
    if (mapping.kind === 'raw' && mapping.sparse) {
      const extent = await mapping.device.extentAt(mapping.at, length);
      isZero = extent.kind === 'zero';
      length = extent.length;
    }
    const offset = mapping.kind === 'encoded' ? undefined : mapping.at;
    const entry = {
      start: at,
      length,
      depth: 0,
      present: mapping.kind !== 'below',
      zero: isZero,
      data: mapping.kind === 'raw' || mapping.kind === 'encoded',
      ...(offset === undefined || withoutOffsets ? {} : { offset }),
    };
    const last = entries.at(-1);
    if (last !== undefined && continues(last, entry)) last.length += length;
    else entries.push(entry);
    at += length;
  }
  return entries;
}

function continues(last: MapEntry, next: MapEntry): boolean {
  const { offset } = next;
  const follows = last.offset === undefined ? offset === undefined : offset === last.offset + last.length;
  return follows && last.present === next.present && last.zero === next.zero && last.data === next.data;
}
