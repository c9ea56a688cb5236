/** Random numbers that come again: the seed stands in the message of every test that uses them. */

/** A source of repeatable random numbers. */
export interface Random {
  /** An integer of 0 to `most`. */
  upTo(most: number): number;
  /** `length` random bytes, none of them zero, so that they differ from holes. */
  bytes(length: number): Uint8Array;
}

/** The numbers of `seed`, a 32-bit integer (mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return {
    upTo: (most) => Math.floor((next() / 0x1_0000_0000) * (most + 1)),
    bytes: (length) => {
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; at++) bytes[at] = (next() % 255) + 1;
      return bytes;
    },
  };
}
