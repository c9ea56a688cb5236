/** Bytes for tests of compression, the same in every run. */
import assert from 'node:assert/strict';
import type { Codec } from '../../src/codec/codec.ts';
import type { ZstdEngine } from '../../src/codec/zstd.ts';
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

/** What a codec makes of a cluster; undefined if it is not worth it. */
export async function encoded(
  codec: Codec,
  cluster: Uint8Array,
  level?: number,
): Promise<Uint8Array | undefined> {
  const into = new Uint8Array(cluster.length);
  const length = await codec.encode(cluster, into, level);
  return length === 0 ? undefined : into.slice(0, length);
}

/** A frame that holds `bytes`, which must compress. */
export async function frameOf(engine: ZstdEngine, bytes: Uint8Array): Promise<Uint8Array> {
  const into = new Uint8Array(bytes.length);
  const length = await engine.encodeFrame(bytes, into, 3);
  assert.ok(length > 0);
  return into.slice(0, length);
}
