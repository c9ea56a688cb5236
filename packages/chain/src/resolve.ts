/**
 * The walk down a chain until a layer answers: the one place that counts layers.
 *
 * Everything else reads from its answer: reading fetches it, `map` prints it, BLOCK_STATUS sends it, commit
 * copies what lies above the base. The synchronous walk is written out by hand because it runs once per
 * guest request; its asynchronous twin says the same with `await`.
 */
import type { Extent, LayerSource, Mapping } from '@strata/block';

/** Who decides over a range, and how. */
export interface Resolution {
  /** Index in the chain: 0 is the top. */
  readonly layer: number;
  /**
   * The layer's own answer. `below` here means that even the last layer passed the question on: nobody wrote
   * the range. `past-end`: the layers above left it to this one, which is too short to reach it: zeros.
   */
  readonly mapping: Mapping | PastEnd;
}

/** A range past the end of the layer that should answer for it. */
export interface PastEnd {
  readonly kind: 'past-end';
  readonly length: number;
  /** As of the layer above, which left the range to this one. */
  readonly at?: number;
}

/** Resolves without waiting, as far as tables lie in memory. Undefined: call `resolve`. */
export function tryResolve(
  layers: readonly LayerSource[],
  offset: number,
  limit: number,
): Resolution | undefined {
  let most = limit;
  let mapping: Mapping | undefined;
  for (let index = 0; index < layers.length; index++) {
    const layer = layers[index] as LayerSource;
    const left = layer.size - offset;
    if (left <= 0) return pastEnd(index, mapping, most);
    mapping = layer.tryMap(offset, Math.min(left, most));
    if (mapping === undefined) return undefined;
    if (mapping.kind !== 'below') return { layer: index, mapping };
    most = mapping.length;
  }
  return nobody(layers, mapping, most);
}

/** Who decides over `offset` and what follows it, for at most `limit` bytes. */
export async function resolve(
  layers: readonly LayerSource[],
  offset: number,
  limit: number,
): Promise<Resolution> {
  let most = limit;
  let mapping: Mapping | undefined;
  for (const [index, layer] of layers.entries()) {
    const left = layer.size - offset;
    if (left <= 0) return pastEnd(index, mapping, most);
    const limitHere = Math.min(left, most);
    mapping = layer.tryMap(offset, limitHere) ?? (await layer.map(offset, limitHere));
    if (mapping.kind !== 'below') return { layer: index, mapping };
    most = mapping.length;
  }
  return nobody(layers, mapping, most);
}

function pastEnd(layer: number, above: Mapping | undefined, length: number): Resolution {
  const at = above?.kind === 'below' ? above.at : undefined;
  return { layer, mapping: { kind: 'past-end', length, ...(at !== undefined && { at }) } };
}

function nobody(layers: readonly LayerSource[], mapping: Mapping | undefined, length: number): Resolution {
  return { layer: Math.max(layers.length - 1, 0), mapping: mapping ?? { kind: 'below', length } };
}

/**
 * The extent that a resolution describes, in NBD's count of depth. Undefined where only the file under a raw
 * mapping knows which bytes are zeros.
 */
export function extentOf(offset: number, { layer, mapping }: Resolution): Extent | undefined {
  const { length } = mapping;
  const depth = layer + 1;
  switch (mapping.kind) {
    case 'raw':
      return mapping.sparse ? undefined : { offset, length, kind: 'data', depth };
    case 'encoded':
      return { offset, length, kind: 'compressed', depth };
    case 'zero':
      return { offset, length, kind: mapping.at === undefined ? 'zero' : 'zero-allocated', depth };
    case 'past-end':
      return { offset, length, kind: 'zero', depth };
    case 'below':
      return { offset, length, kind: 'hole', depth: 0 };
  }
}
