/**
 * A layer and what lies below it as one disk: the plainest reading of the contract in block/src/layer.ts.
 *
 * For tests only. The chain package has the real one, which knows more than one layer and is fast; this one
 * is small enough to be seen to be right.
 */
import { type BlockDevice, type BlockSource, checkedDevice, type Extent, type Layer } from '@strata/block';

async function readThrough(
  layer: Layer,
  below: BlockSource,
  into: Uint8Array,
  offset: number,
): Promise<void> {
  for (let at = 0; at < into.length; ) {
    const mapping = await layer.map(offset + at, into.length - at);
    const part = into.subarray(at, at + mapping.length);
    if (mapping.kind === 'raw') await mapping.device.read(part, mapping.at);
    else if (mapping.kind === 'encoded') await layer.readEncoded(part, offset + at);
    else if (mapping.kind === 'zero') part.fill(0);
    else await below.read(part, offset + at);
    at += mapping.length;
  }
}

async function extentThrough(layer: Layer, offset: number, limit: number): Promise<Extent> {
  const mapping = await layer.map(offset, limit);
  const extent = { offset, length: mapping.length, depth: 1 };
  if (mapping.kind === 'encoded') return { ...extent, kind: 'compressed' };
  if (mapping.kind === 'zero')
    return { ...extent, kind: mapping.at === undefined ? 'zero' : 'zero-allocated' };
  if (mapping.kind === 'below') {
    return layer.backing ? { ...extent, kind: 'data', depth: 2 } : { ...extent, kind: 'hole', depth: 0 };
  }
  if (!mapping.sparse) return { ...extent, kind: 'data' };
  const found = await mapping.device.extentAt(mapping.at, mapping.length);
  return { ...found, offset, depth: 1 };
}

/** `layer` over `below` as a checked disk. Disposing of it disposes of the layer. */
export function layerDevice(layer: Layer, below: BlockSource): BlockDevice {
  return checkedDevice({
    size: layer.size,
    caps: layer.caps,
    read: (into, offset) => readThrough(layer, below, into, offset),
    tryRead: () => false,
    extentAt: (offset, limit) => extentThrough(layer, offset, limit),
    tryExtentAt: () => undefined,
    write: (from, offset) => layer.write(from, offset, below),
    zero: (offset, length, how) => layer.zero(offset, length, below, how),
    discard: (offset, length) => layer.discard(offset, length),
    flush: () => layer.flush(),
    [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
  });
}
