/**
 * Decides what a backup will be, before anything is written: full or on top of the newest one, and by which bitmaps.
 *
 * It is on top of the newest one only if it is sure that the bitmaps tell everything that changed since then.
 */
import { DiskError, isDiskError } from '@strata/block';
import { bitmapsBetween, parseCheckpoint } from './checkpoint-name.ts';
import type { Point } from './folder.ts';
import type { Manifest } from './manifest.ts';
import type { BackupSource } from './source.ts';

/** What the user asks for. */
export interface PlanWish {
  /** Undefined: full if the folder is empty, otherwise incremental. */
  readonly kind?: 'full' | 'incremental' | undefined;
  /** The bitmaps that tell what changed; none: those of the source between the two checkpoints. */
  readonly bitmaps?: readonly string[];
  /** The checkpoint at which the bitmaps begin; undefined: the one that one of them is called after. */
  readonly since?: string | undefined;
  /** The source is the one of the newest backup, although it is called otherwise now. */
  readonly moved?: boolean;
}

/** What a backup will be. */
export type Plan =
  | { readonly kind: 'full' }
  | { readonly kind: 'incremental'; readonly parent: Manifest; readonly bitmaps: readonly string[] }
  /** The newest backup is of this very checkpoint. */
  | { readonly kind: 'nothing'; readonly newest: Manifest };

/** How the errors end that a full backup would mend. */
export const fullHelps = 'full backup';

/** @throws {DiskError} invalid, not-found, corrupt: `context.op` is `fullHelps` where a full backup could be taken */
export function planBackup(
  { disk, name, checkpoint, bitmaps: offered }: Omit<BackupSource, 'frozen' | 'changes'>,
  points: readonly Point[],
  { kind, bitmaps = [], since, moved = false }: PlanWish,
): Plan {
  const named = bitmaps.length > 0;
  if (kind === 'full' && named) throw new DiskError('invalid', 'a full backup needs no bitmap');
  if (kind === 'full') return { kind };
  const newest = points.at(-1);
  if (newest === undefined) {
    if (kind === undefined && !named) return { kind: 'full' };
    throw refusal('not-found', 'the folder has no backup that this one could build upon');
  }
  const { manifest: parent } = newest;
  if (parent === undefined) throw newest.problem;
  if (parent.checkpoint === undefined) {
    throw refusal(
      'invalid',
      'the newest backup was taken at no checkpoint, so what changed since is not known',
    );
  }
  if (checkpoint === undefined) {
    throw refusal('invalid', 'the source is at no checkpoint; make one, or name the one that it is at');
  }
  // Our own names of checkpoints say which disk they are of.
  if (parseCheckpoint(parent.checkpoint) === undefined && parent.source !== name && !moved) {
    const message = `the newest backup is of '${parent.source}'; if that is the same disk, say that it was moved`;
    throw refusal('invalid', message);
  }
  if (parent.size !== disk.size) {
    const sizes = `${disk.size} bytes, and the newest backup is of one of ${parent.size}`;
    throw refusal('invalid', `the size of the disk has changed: it is ${sizes}`);
  }
  if (checkpoint === parent.checkpoint) return { kind: 'nothing', newest: parent };
  const chosen = named
    ? namedBitmaps(offered, parent.checkpoint, bitmaps, since)
    : automatically(offered, parent.checkpoint, checkpoint);
  return { kind: 'incremental', parent, bitmaps: chosen };
}

function namedBitmaps(
  offered: readonly string[],
  from: string,
  bitmaps: readonly string[],
  since: string | undefined,
): readonly string[] {
  const missing = bitmaps.find((name) => !offered.includes(name));
  if (missing !== undefined) throw refusal('not-found', `the source has no bitmap '${missing}'`);
  const begins = since ?? (bitmaps.includes(from) ? from : bitmaps[0]);
  if (begins === from) return bitmaps;
  const message = `the bitmaps tell what changed since checkpoint '${begins}', and the newest backup was taken at '${from}'`;
  throw refusal('invalid', message);
}

function automatically(offered: readonly string[], from: string, to: string): readonly string[] {
  // Of names that others chose nothing tells their order; but one called after the parent's checkpoint begins there.
  if (parseCheckpoint(from) === undefined && offered.includes(from)) {
    const message = `checkpoint '${from}' is not one of ours: name the bitmaps that tell what changed since`;
    throw new DiskError('invalid', message);
  }
  try {
    return bitmapsBetween(offered, from, to);
  } catch (error) {
    throw isDiskError(error) ? refusal(error.code, error.message) : error;
  }
}

function refusal(code: DiskError['code'], message: string): DiskError {
  return new DiskError(code, message, { op: fullHelps });
}
