/**
 * Checkpoints of images that nobody else has open: on one or several at once, all or none.
 *
 * A checkpoint of several images is made in two rounds, each change of an image being whole or not there. In the first
 * every image gets the new bitmap, under a name that says that it is unfinished and of how many; the former one goes
 * on recording. In the second the bitmap gets its name and the former one stops. After a crash the next run sees
 * from the names how far it was: in the first round it is undone, and everything is as if it had not been; when all
 * images have it, it is finished. At every moment some bitmap of the series records, so nothing is ever taken for clean.
 */
import type { BitmapChange, BitmapFacts } from '@strata/bitmap';
import { DiskError } from '@strata/block';
import { checkSeries, formatCheckpoint, newIdentity } from './checkpoint-name.ts';
import { type Checkpoint, checkpointsIn, newestCheckpoint } from './checkpoint-state.ts';

/** An image that a checkpoint is made of. */
export interface CheckpointImage {
  /** What the user calls it. */
  readonly name: string;
  /** Of a new bitmap. */
  readonly granularity: number;
  list(): Promise<readonly Pick<BitmapFacts, 'name' | 'enabled' | 'inconsistent'>[]>;
  /** Makes all changes or none, durably. */
  change(changes: readonly BitmapChange[]): Promise<void>;
}

/** A checkpoint that was made, or a bitmap that was dropped. */
export interface ImageCheckpoint {
  readonly image: string;
  readonly checkpoint: string;
}

/**
 * Begins a new checkpoint on all of `images`; what an earlier run left unfinished is cleared up first.
 *
 * @throws {DiskError} invalid if an interrupted checkpoint had more images than are named; not-supported, limit, no-space
 */
export async function createCheckpoint(
  images: readonly CheckpointImage[],
  series: string,
): Promise<readonly ImageCheckpoint[]> {
  checkSeries(series);
  await clearUp(images, series);
  const group = newIdentity();
  const made: { image: CheckpointImage; name: string; pending: string; frozen: readonly BitmapChange[] }[] =
    [];
  for (const image of images) {
    const checkpoints = checkpointsIn(await image.list(), series);
    const newest = newestCheckpoint(checkpoints)?.parts;
    const parts = { series, number: (newest?.number ?? 0) + 1, group, disk: newest?.disk ?? newIdentity() };
    const frozen = freezing(checkpoints);
    const pending = formatCheckpoint({ ...parts, unfinishedOf: images.length });
    made.push({ image, name: formatCheckpoint(parts), pending, frozen });
  }
  const several = images.length > 1;
  const begun: { readonly image: CheckpointImage; readonly pending: string }[] = [];
  try {
    for (const { image, name, pending, frozen } of made) {
      const { granularity } = image;
      const add = { kind: 'add', granularity, enabled: true } as const;
      await image.change(several ? [{ ...add, name: pending }] : [{ ...add, name }, ...frozen]);
      begun.push({ image, pending });
    }
  } catch (error) {
    // What this cannot undo the next run does.
    for (const { image, pending } of begun)
      await image.change([{ kind: 'remove', name: pending }]).catch(() => undefined);
    throw error;
  }
  if (several) {
    for (const { image, name, pending, frozen } of made)
      await image.change([{ kind: 'rename', name: pending, to: name }, ...frozen]);
  }
  return made.map(({ image, name }) => ({ image: image.name, checkpoint: name }));
}

/** What records shall record no more. Inconsistent ones stay as they are: they can only be removed. */
function freezing(checkpoints: readonly Checkpoint[]): readonly BitmapChange[] {
  return checkpoints
    .filter(({ enabled, inconsistent }) => enabled && !inconsistent)
    .map(({ name }) => ({ kind: 'set-enabled', name, enabled: false }));
}

/** An image with what it has of an interrupted checkpoint. */
interface Part {
  readonly image: CheckpointImage;
  readonly checkpoints: readonly Checkpoint[];
  readonly pending: Checkpoint | undefined;
  readonly isDone: boolean;
}

async function clearUp(images: readonly CheckpointImage[], series: string): Promise<void> {
  for (;;) {
    const listed = [];
    for (const image of images)
      listed.push({ image, checkpoints: checkpointsIn(await image.list(), series) });
    const first = listed
      .flatMap(({ checkpoints }) => checkpoints)
      .find(({ parts }) => parts.unfinishedOf !== undefined);
    if (first === undefined) return;
    const { group, unfinishedOf: count = 0 } = first.parts;
    const parts = listed.map(({ image, checkpoints }) => {
      const ofGroup = checkpoints.filter((each) => each.parts.group === group);
      const pending = ofGroup.find((each) => each.parts.unfinishedOf !== undefined);
      return { image, checkpoints, pending, isDone: pending === undefined && ofGroup.length > 0 };
    });
    await settle(parts, first.name, count);
  }
}

async function settle(parts: readonly Part[], name: string, count: number): Promise<void> {
  const having = parts.filter(({ pending, isDone }) => pending !== undefined || isDone);
  const isForward = parts.some(({ isDone }) => isDone) || having.length >= count;
  if (!isForward && parts.length < count) {
    const message = `checkpoint '${name}' of ${count} images was interrupted, and ${parts.length} are named: name all of them`;
    throw new DiskError('invalid', message);
  }
  for (const { image, checkpoints, pending } of having) {
    if (pending === undefined) continue;
    const { unfinishedOf: _, ...finished } = pending.parts;
    if (!isForward || pending.inconsistent) await image.change([{ kind: 'remove', name: pending.name }]);
    else {
      const older = checkpoints.filter((each) => each !== pending);
      const to = formatCheckpoint(finished);
      await image.change([{ kind: 'rename', name: pending.name, to }, ...freezing(older)]);
    }
  }
}

/**
 * Drops all checkpoints but the newest: what they tell has been backed up.
 *
 * @throws {DiskError} invalid if a checkpoint was interrupted; then nothing is dropped
 */
export async function finishCheckpoint(
  images: readonly CheckpointImage[],
  series: string,
): Promise<readonly ImageCheckpoint[]> {
  checkSeries(series);
  const found = [];
  for (const image of images) {
    const checkpoints = checkpointsIn(await image.list(), series);
    const newest = newestCheckpoint(checkpoints);
    found.push({ image, checkpoints: checkpoints.filter((each) => each !== newest) });
  }
  return removeAll(found);
}

/** Drops all checkpoints of a series, unfinished and inconsistent ones too: the next backup has to be a full one. */
export async function dropCheckpoints(
  images: readonly CheckpointImage[],
  series: string,
): Promise<readonly ImageCheckpoint[]> {
  checkSeries(series);
  const found = [];
  for (const image of images) found.push({ image, checkpoints: checkpointsIn(await image.list(), series) });
  return removeAll(found);
}

async function removeAll(
  found: readonly { readonly image: CheckpointImage; readonly checkpoints: readonly Checkpoint[] }[],
): Promise<readonly ImageCheckpoint[]> {
  const removed: ImageCheckpoint[] = [];
  for (const { image, checkpoints } of found) {
    if (checkpoints.length === 0) continue;
    await image.change(checkpoints.map(({ name }) => ({ kind: 'remove', name })));
    removed.push(...checkpoints.map(({ name }) => ({ image: image.name, checkpoint: name })));
  }
  return removed;
}
