/**
 * Walking the extents of a disk: asked for one by one, without a promise where the answer is at hand.
 */
import type { BlockSource, Extent } from './device.ts';

/** After so many answers at hand the event loop gets its turn, so that a long walk does not hold up a server. */
const TURN = 4096;

/** True if the bytes of `extent` are zeros, whoever says so. */
export function readsAsZeros(extent: Extent): boolean {
  return extent.kind === 'zero' || extent.kind === 'zero-allocated' || extent.kind === 'hole';
}

/**
 * Calls `visit` for each extent of a range, in order. Neighbours of one kind and depth come as one extent.
 * If `visit` returns false the walk ends.
 */
export async function walkExtents(
  source: BlockSource,
  offset: number,
  length: number,
  visit: (extent: Extent) => boolean | undefined,
): Promise<void> {
  const end = offset + length;
  let pending: Extent | undefined;
  let answers = 0;
  for (let at = offset; at < end; ) {
    const next = source.tryExtentAt(at, end - at) ?? (await source.extentAt(at, end - at));
    at += next.length;
    if (pending?.kind === next.kind && pending.depth === next.depth) {
      pending = { ...pending, length: pending.length + next.length };
    } else {
      if (pending && visit(pending) === false) return;
      pending = next;
    }
    if (++answers % TURN === 0) await eventLoopTurn();
  }
  if (pending) visit(pending);
}

/** Lets timers, sockets and signals be served. */
export function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
