/**
 * A damaged disk for those who want what is left of it: what cannot be read reads as zeros.
 *
 * A read that fails is halved until the sectors that fail are found. Only failures of the bytes themselves are passed
 * over: when the connection is gone or the caller aborts, there is nothing to salvage.
 */
import type { BlockSource, Extent } from '../device.ts';
import { isDiskError } from '../errors.ts';

/** What was passed over. */
export interface Loss {
  readonly step: 'map' | 'read';
  readonly offset: number;
  readonly error: Error;
}

const SECTOR = 512;
/** A range of which nobody knows what is in it is read in pieces of this size. */
const UNKNOWN = 1 << 16;

/** `source` with zeros for what it cannot read; `tell` hears of each loss. Disposing of it leaves `source` open. */
export function salvaged(source: BlockSource, tell: (loss: Loss) => void): BlockSource {
  const salvage = async (into: Uint8Array, offset: number): Promise<void> => {
    try {
      await source.read(into, offset);
    } catch (error) {
      if (!isDamage(error)) throw error;
      const first = SECTOR - (offset % SECTOR);
      if (into.length <= first) {
        into.fill(0);
        tell({ step: 'read', offset, error });
        return;
      }
      const half = offset + into.length / 2;
      const middle = Math.max(half - (half % SECTOR) - offset, first);
      await salvage(into.subarray(0, middle), offset);
      await salvage(into.subarray(middle), offset + middle);
    }
  };
  return {
    size: source.size,
    read: salvage,
    tryRead: (into, offset) => source.tryRead(into, offset),
    extentAt: async (offset, limit): Promise<Extent> => {
      try {
        return await source.extentAt(offset, limit);
      } catch (error) {
        if (!isDamage(error)) throw error;
        tell({ step: 'map', offset, error });
        return { offset, length: Math.min(limit, UNKNOWN), kind: 'data', depth: 1 };
      }
    },
    tryExtentAt: (offset, limit) => source.tryExtentAt(offset, limit),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function isDamage(error: unknown): error is Error {
  return isDiskError(error, 'io', 'corrupt', 'limit');
}
