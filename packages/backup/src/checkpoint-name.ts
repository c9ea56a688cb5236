/**
 * Names of checkpoints, which are names of bitmaps: the bitmap records what changes from that checkpoint on.
 *
 * The name carries what nothing else keeps in one place: which disk it is (so that the backups of two disks are
 * never taken for each other), the order in a series, and which disks were checkpointed together. Numbers
 * follow each other without gaps, so that a bitmap that is missing is missed.
 */
import { randomBytes } from 'node:crypto';
import { DiskError } from '@strata/block';

/** The parts of `SERIES.NUMBER.GROUP.DISK`. */
export interface CheckpointName {
  /** Letters, digits, `-` and `_`, at most 64. A disk may have several series, a backup cycle each. */
  readonly series: string;
  /** From 1 on. */
  readonly number: number;
  /** Alike for all disks of one checkpoint: eight hexadecimal digits. */
  readonly group: string;
  /** Alike for all checkpoints of a series of one disk: eight hexadecimal digits. */
  readonly disk: string;
  /** The checkpoint is not finished: how many disks it is to have. */
  readonly unfinishedOf?: number;
}

/** The series where none is named. */
export const standardSeries = 'backup';

const pattern =
  /^([\w-]{1,64})\.([1-9]\d{0,8})\.([0-9a-f]{8})\.([0-9a-f]{8})(?:\.unfinished-of-([1-9]\d{0,3}))?$/;

/** The parts of a name; undefined if it is no checkpoint of ours. */
export function parseCheckpoint(name: string): CheckpointName | undefined {
  const [, series = '', number, group = '', disk = '', count] = pattern.exec(name) ?? [];
  if (number === undefined) return undefined;
  const parts = { series, number: Number(number), group, disk };
  return count === undefined ? parts : { ...parts, unfinishedOf: Number(count) };
}

/** The name of the parts. */
export function formatCheckpoint({ series, number, group, disk, unfinishedOf }: CheckpointName): string {
  const tail = unfinishedOf === undefined ? '' : `.unfinished-of-${unfinishedOf}`;
  return `${series}.${number}.${group}.${disk}${tail}`;
}

/** A new group, or a new disk. */
export function newIdentity(): string {
  return randomBytes(4).toString('hex');
}

/** @throws {DiskError} invalid */
export function checkSeries(series: string): void {
  if (/^[\w-]{1,64}$/.test(series)) return;
  throw new DiskError('invalid', 'A series has a name of up to 64 letters, digits, - and _');
}

/**
 * The bitmaps that together hold all changes between two checkpoints of one disk, oldest first.
 *
 * @param names the bitmaps that there are and that record no more
 * @throws {DiskError} not-found if one is missing; invalid for checkpoints that do not follow each other
 */
export function bitmapsBetween(names: readonly string[], from: string, to: string): readonly string[] {
  const first = parseCheckpoint(from);
  const last = parseCheckpoint(to);
  if (first === undefined || last === undefined) {
    throw new DiskError(
      'invalid',
      `which bitmaps lie between '${from}' and '${to}' cannot be told; name them`,
    );
  }
  if (first.series !== last.series || first.disk !== last.disk) {
    throw new DiskError('invalid', `'${to}' is not a checkpoint of the disk and the series of '${from}'`);
  }
  const found: string[] = [];
  for (let number = first.number; number < last.number; number++) {
    const name = names.find((each) => {
      const parts = parseCheckpoint(each);
      const isSame = parts?.series === first.series && parts.disk === first.disk;
      return isSame && parts.number === number && parts.unfinishedOf === undefined;
    });
    if (name === undefined || (number === first.number && name !== from)) {
      const missing =
        number === first.number ? `bitmap '${from}'` : `bitmap ${number} of series '${first.series}'`;
      throw new DiskError('not-found', `${missing} is not there: what changed since then is not known`);
    }
    found.push(name);
  }
  if (found.length === 0) {
    throw new DiskError('invalid', `checkpoint '${to}' is not later than '${from}'`);
  }
  return found;
}
