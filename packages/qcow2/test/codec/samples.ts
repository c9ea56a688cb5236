/** Bytes for tests of compression, the same in every run. */
import { seeded } from '../random.ts';

/** Bytes that compress somewhat. */
export function text(length: number, seed = length): Uint8Array {
  const random = seeded(seed);
  return Uint8Array.from({ length }, () => 97 + random.below(6));
}

/** Bytes that do not. */
export function noise(length: number, seed = length): Uint8Array {
  const random = seeded(seed);
  return Uint8Array.from({ length }, () => random.below(256));
}
