/**
 * What the times of a file tell of changes by others.
 *
 * A host counts time in ticks: two changes inside one have the same time. So a stamp that is to tell the next change is
 * taken only when the clock has left the tick of the last one. The time of the last change of the entry itself is part of it:
 * that of the content can be set back by anybody, and copying tools do.
 */
import type { BigIntStats } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** What of a file's entry is looked at. */
export type FileTimes = Pick<BigIntStats, 'ino' | 'size' | 'mtimeNs' | 'ctimeNs'>;

/** Longer than a tick of any kernel. */
const tickMs = 25;
/** Longer than a tick of file systems that keep whole seconds; FAT counts two at once. */
const coarseTickMs = 2100;
const second = 1_000_000_000n;
const million = 1_000_000n;

/** Words that are equal for two looks at one file with no change in between. */
export function stampOf({ ino, size, mtimeNs, ctimeNs }: FileTimes): string {
  return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

/** What `look` sees once the tick of the last change is over; a clock that goes wrong costs one tick and no more. */
export async function settledTimes<T extends FileTimes>(
  look: () => Promise<T>,
  now: () => number = Date.now,
): Promise<T> {
  const seen = await look();
  const isCoarse = seen.mtimeNs % second === 0n && seen.ctimeNs % second === 0n;
  const [content, entry] = [Number(seen.mtimeNs / million), Number(seen.ctimeNs / million)];
  const tick = isCoarse ? coarseTickMs : tickMs;
  const left = tick - (now() - Math.max(content, entry));
  if (left <= 0) return seen;
  await delay(Math.min(left, tick));
  return look();
}
