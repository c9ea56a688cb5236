/** Paired measurement: contestants take turns in one run, and only ratios of their medians or shortest times are reported. */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';

/** One way to do a piece of work; returns a figure (seconds, or operations a second). */
export interface Contestant {
  readonly name: string;
  /** Read into the page cache before each run, because the kernel may have let go of them. */
  readonly files?: readonly string[];
  /**
   * What each run makes anew, and at most how long it gets. Memory for it is taken and freed before each run: what lies
   * free for two seconds the host of a virtual machine takes back, and to get it again takes longer than the work.
   */
  readonly output?: { readonly path: string; readonly bytes: number };
  readonly run: () => Promise<number>;
}

/**
 * The median figure of each contestant, in their order. Rounds alternate the order, so that drift hits all alike; what
 * earlier work has left to be written is written first.
 */
export async function medians(
  contestants: readonly Contestant[],
  rounds: number,
): Promise<readonly number[]> {
  return (await inTurns(contestants, rounds)).map(median);
}

/**
 * The shortest time of each contestant, measured in the same way. What a whole process writes goes into fresh memory, and
 * where the machine's host has to give that memory back first, runs of either contestant take up to ten times as long,
 * by chance and all of it in the kernel. Nothing makes one shorter than the work is.
 */
export async function shortest(
  contestants: readonly Contestant[],
  rounds: number,
): Promise<readonly number[]> {
  return (await inTurns(contestants, rounds)).map((figures) => Math.min(...figures));
}

async function inTurns(
  contestants: readonly Contestant[],
  rounds: number,
): Promise<readonly (readonly number[])[]> {
  await seconds('sync', []);
  const figures = new Map<Contestant, number[]>(contestants.map((contestant) => [contestant, []]));
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? contestants : [...contestants].reverse();
    for (const contestant of order) {
      for (const file of contestant.files ?? []) await readThrough(file);
      if (contestant.output !== undefined) await makeRoom(contestant.output);
      figures.get(contestant)?.push(await contestant.run());
    }
  }
  return contestants.map((contestant) => figures.get(contestant) ?? []);
}

async function readThrough(file: string): Promise<void> {
  for await (const _ of createReadStream(file, { highWaterMark: 1 << 20 }));
}

/** Removes the file, once it has been as long as it may get. */
async function makeRoom({ path, bytes }: NonNullable<Contestant['output']>): Promise<void> {
  await rm(path, { force: true });
  const file = await open(path, 'w');
  const piece = new Uint8Array(2 ** 21);
  for (let at = 0; at < bytes; at += piece.length) await file.write(piece, 0, piece.length, at);
  await file.close();
  await rm(path);
}

/** The middle of an odd number of figures, or the lower of the two in the middle. */
function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b);
  const middle = sorted[Math.floor((sorted.length - 1) / 2)];
  if (middle === undefined) throw new RangeError('median of nothing');
  return middle;
}

/** Seconds that a command takes. It must succeed; what it prints is thrown away. */
export function seconds(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const start = process.hrtime.bigint();
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve(Number(process.hrtime.bigint() - start) / 1e9);
      else reject(new Error(`${command} ${args.join(' ')} ended with ${status}`));
    });
  });
}
