/**
 * `map --context`: what a metadata context says of every range, of an export by asking its server, of an image by
 * computing what a server of ours would answer.
 *
 * The forms are those of `nbdinfo --map`.
 */
import { type BlockSource, DiskError } from '@strata/block';
import { allocationDepth, baseAllocation, isNbdUri, openNbd, type StatusRun } from '@strata/nbd';
import { openDisk, type Wish } from './open.ts';

/** A range over which the context says the same. */
export interface ContextEntry extends StatusRun {
  readonly offset: number;
}

/** Whose context is walked, and over which range. */
export interface ContextWish {
  readonly context: string;
  readonly start: number;
  /** Bytes; undefined: to the end. */
  readonly length: number | undefined;
  readonly wish: Wish;
}

const ofImages: Readonly<Record<string, typeof baseAllocation>> = {
  'base:allocation': baseAllocation,
  'qemu:allocation-depth': allocationDepth,
};

/** All runs, neighbours that are alike as one. @throws {DiskError} not-found for a context that there is not */
export async function walkContext(
  name: string,
  { context, start, length, wish }: ContextWish,
  add: (entry: ContextEntry) => void,
): Promise<void> {
  if (isNbdUri(name)) {
    await using connection = await openNbd(name, {
      contexts: [context],
      reconnectDelayMs: wish.reconnectDelayMs,
    });
    const ask = (offset: number, limit: number) => connection.contextAt(context, offset, limit);
    await walk(connection.source, ask, start, length, add);
    return;
  }
  const of = Object.hasOwn(ofImages, context) ? ofImages[context] : undefined;
  if (of === undefined)
    throw new DiskError('not-found', `there is no metadata context '${context}' of images`);
  await using chain = await openDisk(name, wish);
  const { describe, tryDescribe } = of(chain.source);
  const ask = async (offset: number, limit: number) =>
    tryDescribe(offset, limit) ?? (await describe(offset, limit));
  await walk(chain.source, ask, start, length, add);
}

async function walk(
  { size }: BlockSource,
  ask: (offset: number, limit: number) => Promise<StatusRun>,
  start: number,
  length: number | undefined,
  add: (entry: ContextEntry) => void,
): Promise<void> {
  const end = length === undefined ? size : Math.min(start + length, size);
  let held: ContextEntry | undefined;
  for (let at = start; at < end; ) {
    const run = await ask(at, end - at);
    if (held?.flags === run.flags) held = { ...held, length: held.length + run.length };
    else {
      if (held !== undefined) add(held);
      held = { offset: at, length: run.length, flags: run.flags };
    }
    at += run.length;
  }
  if (held !== undefined) add(held);
}

/** What a value means, where it is known. */
function meaning(context: string, flags: number): string | undefined {
  if (context === 'base:allocation') return ['data', 'hole', 'zero', 'hole,zero'][flags];
  if (context.startsWith('qemu:dirty-bitmap:')) return ['clean', 'dirty'][flags];
  if (context !== 'qemu:allocation-depth') return undefined;
  return ['absent', 'local'][flags] ?? `backing depth ${flags}`;
}

/** A line of `nbdinfo --map`. */
export function contextLine(context: string, { offset, length, flags }: ContextEntry): string {
  const columns = [
    String(offset).padStart(10),
    '  ',
    String(length).padStart(10),
    ' ',
    String(flags).padStart(4),
  ];
  const words = meaning(context, flags);
  return `${columns.join('')}${words === undefined ? '' : `  ${words}`}\n`;
}

/** An element of `nbdinfo --map --json`. */
export function contextJson(context: string, { offset, length, flags }: ContextEntry): string {
  const words = meaning(context, flags);
  const description = words === undefined ? '' : `, "description": ${JSON.stringify(words)}`;
  return `{ "offset": ${offset}, "length": ${length}, "type": ${flags}${description}}`;
}
