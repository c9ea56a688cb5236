/** Random numbers that are the same in every run: a failing case can be named by its seed. */

/** A stream of numbers. */
export interface Random {
  /** An integer of 0 to `limit - 1`; `limit` is at most 2^53. */
  below(limit: number): number;
  /** One of `items`. */
  pick<T>(items: readonly T[]): T;
}

/** The stream that belongs to `seed` (mulberry32, two steps for each number). */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  const below = (limit: number): number =>
    Math.floor((((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53) * limit);
  const pick = <T>(items: readonly T[]): T => {
    if (items.length === 0) throw new RangeError('nothing to pick from');
    return items[below(items.length)] as T;
  };
  return { below, pick };
}
