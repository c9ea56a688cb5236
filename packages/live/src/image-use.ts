/**
 * An image of a disk in use goes over from writing to reading, or the other way, and keeps its bitmaps.
 *
 * Those that the image stores go with it. Those that are in memory only would end with the opening that they belong to, so
 * they are carried over: an image that is open for reading shows them as they were, and one that is open for writing
 * again has them record again.
 */
import {
  type BitmapFacts,
  type BitmapSource,
  bitmapStoreOf,
  bitmapsOf,
  type DirtyBitmap,
} from '@strata/bitmap';
import type { LayerSource } from '@strata/block';
import type { ChainImage, WritableImage } from '@strata/chain';

/** A bitmap in memory. */
interface Carried {
  readonly facts: BitmapFacts;
  readonly content: DirtyBitmap;
}

/** As `WritableImage.toRead`. @throws {DiskError} as that does */
export async function toRead(
  image: WritableImage,
): Promise<{ readonly image: ChainImage; readonly failure: unknown }> {
  const carried = await transientOf(image.layer);
  const read = await image.toRead();
  if (carried.length === 0) return read;
  return { ...read, image: { ...read.image, layer: withBitmaps(read.image.layer, carried) } };
}

/** As `ChainImage.toWrite`. @throws {DiskError} as that does */
export async function toWrite(image: ChainImage): Promise<WritableImage> {
  const carried = await transientOf(image.layer);
  const writable = await image.toWrite();
  const store = bitmapStoreOf(writable.layer);
  for (const { facts, content } of store === undefined ? [] : carried) {
    const { name, granularity, enabled } = facts;
    await store?.add(name, { granularity, enabled, persistent: false });
    await store?.merge(name, content);
  }
  return writable;
}

async function transientOf(layer: LayerSource): Promise<readonly Carried[]> {
  const source = bitmapsOf(layer);
  if (source === undefined) return [];
  const carried: Carried[] = [];
  for (const facts of await source.list()) {
    if (facts.persistent || facts.inconsistent) continue;
    carried.push({ facts: { ...facts, busy: false }, content: (await source.load(facts.name)).copy() });
  }
  return carried;
}

/** `layer`, which has bitmaps beside those that its image stores. */
function withBitmaps(layer: LayerSource, carried: readonly Carried[]): LayerSource {
  const stored = bitmapsOf(layer);
  const bitmaps: BitmapSource = {
    list: async () => [...((await stored?.list()) ?? []), ...carried.map(({ facts }) => facts)],
    load: async (name) => {
      const found = carried.find(({ facts }) => facts.name === name);
      if (found !== undefined) return found.content;
      return (stored as BitmapSource).load(name);
    },
  };
  const shown = {
    size: layer.size,
    backing: layer.backing,
    format: layer.format,
    bitmaps,
    map: (offset: number, limit: number) => layer.map(offset, limit),
    tryMap: (offset: number, limit: number) => layer.tryMap(offset, limit),
    readEncoded: (into: Uint8Array, offset: number) => layer.readEncoded(into, offset),
    [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
  };
  return shown;
}
