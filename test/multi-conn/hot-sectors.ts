/**
 * Clients that fight over a few sectors of one export, and what each saw of each sector.
 *
 * A sector is filled with the number of the write that it comes from. Its first and its last word have a history each:
 * the page cache lets a read that runs beside a write see some of it, and no more than words is promised to be whole.
 */
import { type NbdConnection, openNbd } from '@strata/nbd';
import { type Random, randomFrom } from '@strata/testkit';
import { type Operation, violation } from './linearizable.ts';

export const sector = 512;
/** Sectors that are fought over. */
export const hotSectors = 64;
const mostSectors = 4;
/** Offsets in a sector. */
const words = [0, sector - 4];

/** What to run. */
export interface Fight {
  /** A URI a connection; several may be the same. */
  readonly uris: readonly string[];
  readonly seed: number;
  /** Operations of each connection. */
  readonly operations: number;
  /** Operations of a connection that are under way at a time. */
  readonly depth: number;
}

/** What the clients saw, two words a sector. */
export async function fight({ uris, seed, operations, depth }: Fight): Promise<readonly Operation[][]> {
  const histories: Operation[][] = Array.from({ length: hotSectors * words.length }, () => []);
  const clock = { now: 0, values: 0 };
  const connections = await Promise.all(uris.map((uri) => openNbd(uri)));
  try {
    const fighters = connections.flatMap((connection, index) =>
      Array.from({ length: depth }, (_, thread) => {
        const random = randomFrom(seed + index * depth + thread);
        return oneAfterAnother(connection, random, operations / depth, clock, histories);
      }),
    );
    await Promise.all(fighters);
  } finally {
    await Promise.all(connections.map((connection) => connection[Symbol.asyncDispose]()));
  }
  return histories;
}

/** The first sector whose history is impossible, in words. */
export function firstViolation(histories: readonly Operation[][]): string | undefined {
  for (const [index, history] of histories.entries()) {
    const found = violation(history);
    if (found !== undefined) return `sector ${Math.floor(index / words.length)}: ${found}`;
  }
  return undefined;
}

interface Clock {
  now: number;
  values: number;
}

async function oneAfterAnother(
  { source, device }: NbdConnection,
  random: Random,
  count: number,
  clock: Clock,
  histories: readonly Operation[][],
): Promise<void> {
  if (device === undefined) throw new Error('the export is read-only');
  for (let done = 0; done < count; done++) {
    const first = random.upTo(hotSectors - 1);
    const length = 1 + random.upTo(Math.min(mostSectors, hotSectors - first) - 1);
    const bytes = Buffer.alloc(length * sector);
    const kind = random.upTo(1) === 0 ? 'read' : 'write';
    if (kind === 'write') for (let index = 0; index < length; index++) stamp(bytes, index, ++clock.values);
    const start = clock.now++;
    if (kind === 'write') await device.write(bytes, first * sector);
    else await source.read(bytes, first * sector);
    const end = clock.now++;
    for (let index = 0; index < length; index++) {
      for (const [word, at] of words.entries()) {
        const value = bytes.readUInt32LE(index * sector + at);
        histories[(first + index) * words.length + word]?.push({ kind, value, start, end });
      }
    }
    if (random.upTo(15) === 0) await device.flush();
  }
}

function stamp(bytes: Buffer, index: number, value: number): void {
  for (let at = index * sector; at < (index + 1) * sector; at += 4) bytes.writeUInt32LE(value, at);
}
