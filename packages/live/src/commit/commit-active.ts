/**
 * Commit of a disk's top while guests write to it: what it and the images under it hold goes down into a base, until the
 * base has all of it; then the base becomes the disk.
 *
 * What changes is marked when the change has been made, and copied again: a copy that was read beside a change is marked by
 * it. When somebody completes the job, the disk is paused for what is left, and is the base from then on. Until then the
 * chain as it is recorded shows the guest's content, because the upper images hide what has arrived in the base.
 *
 * QEMU: block/mirror.c, commit_active_start.
 */
import { DirtyBitmap } from '@strata/bitmap';
import { DiskError, isDiskError, RangeLock } from '@strata/block';
import { closeImage } from '@strata/chain';
import { longestPiece } from '../backup/copier.ts';
import type { JobTask, JobWork } from '../jobs/task.ts';
import type { Claim, LiveDisk, LiveNode } from '../live-disk.ts';
import { closeBase, type OpenBase, openBase } from './base-node.ts';
import type { CommitOptions } from './commit.ts';
import { DirtyFilter } from './dirty-filter.ts';
import { UpperImages } from './upper-images.ts';

/** What changes is marked in units of so many bytes. */
const granularity = 65_536;
/** Pieces in flight. */
const parallel = 4;

/** What is to be committed. */
export interface ActiveCommitOptions extends Pick<CommitOptions, 'disk' | 'base' | 'onDropped'> {}

/**
 * Prepares to commit all images above `base` into it. The disk is paused, and may go on when this has resolved.
 * @param stop ends the job; called when the disk is closed
 * @throws {DiskError} busy, and what opening the base for writing throws
 */
export async function prepareActiveCommit(
  options: ActiveCommitOptions,
  stop: () => Promise<void>,
): Promise<ActiveCommitTask> {
  const { disk, base } = options;
  const claim = disk.claim('block job: commit', stop);
  try {
    return new ActiveCommitTask(options, await openBase(disk, base), claim);
  } catch (error) {
    claim.end();
    throw error;
  }
}

/** What a commit of a disk's top does. */
export class ActiveCommitTask implements JobTask {
  readonly type = 'commit';
  readonly node: string;
  readonly #disk: LiveDisk;
  readonly #baseIndex: number;
  readonly #onDropped: ActiveCommitOptions['onDropped'];
  readonly #base: OpenBase;
  readonly #upper: UpperImages;
  readonly #claim: Claim;
  readonly #dirty: DirtyBitmap;
  readonly #pieces = new Set<Promise<void>>();
  readonly #copies = new RangeLock();
  /** Images that are not of the disk any more. */
  #dropped: readonly LiveNode[] = [];
  #work: JobWork | undefined;
  #failure: { readonly error: unknown } | undefined;
  #isLetGo = false;
  #hasPivoted = false;
  #changed: () => void = () => undefined;

  /** Made by `prepareActiveCommit`. */
  constructor({ disk, base: baseIndex, onDropped }: ActiveCommitOptions, base: OpenBase, claim: Claim) {
    this.node = disk.top.name;
    this.#disk = disk;
    this.#baseIndex = baseIndex;
    this.#onDropped = onDropped;
    this.#base = base;
    this.#claim = claim;
    this.#upper = new UpperImages(
      disk.nodes.slice(0, baseIndex),
      base.image,
      disk.nodes.slice(baseIndex + 1),
    );
    this.#dirty = new DirtyBitmap(disk.size, granularity);
    disk.filterWith(new DirtyFilter(this.#dirty, () => this.#changed()));
  }

  letGo(): void {
    this.#isLetGo = true;
  }

  async run(work: JobWork): Promise<void> {
    this.#work = work;
    try {
      await this.#upper.growBase();
      await this.#markHeld(work);
      await this.#copyUntilClean(work);
      work.ready();
      while (!work.isCompleting) {
        await this.#copyUntilClean(work);
        if (!work.isCompleting) await Promise.race([work.attention(), this.#untilChanged()]);
      }
    } catch (error) {
      throw this.#told(error);
    }
  }

  /** Copies what is left, and makes the base the disk. */
  async prepare(): Promise<void> {
    await this.#disk.paused(async () => {
      try {
        await this.#copyRange(0, this.#disk.size);
        this.#check();
        await this.#upper.target.flush();
      } catch (error) {
        throw this.#told(error);
      }
      if (this.#isLetGo) return;
      const { name, image } = this.#base;
      this.#dropped = this.#disk.nodes.slice(0, this.#baseIndex);
      const rest = this.#disk.nodes.slice(this.#baseIndex + 1);
      this.#disk.filterWith(undefined);
      this.#disk.exchange([{ name, image, writable: image }, ...rest]);
      this.#hasPivoted = true;
    });
  }

  async clean(): Promise<void> {
    try {
      if (this.#hasPivoted) {
        // All that they held is in the base, durably.
        for (const { image } of this.#dropped) await closeImage(image).catch(() => undefined);
        this.#onDropped?.(this.#dropped);
        return;
      }
      await this.#disk.paused(async () => {
        this.#disk.filterWith(undefined);
        await closeBase(this.#disk, this.#base);
      });
    } finally {
      this.#claim.end();
    }
  }

  /** Marks all that the upper images hold. */
  async #markHeld(work: JobWork): Promise<void> {
    const { size } = this.#upper.source;
    for (let at = 0; at < size; ) {
      await this.#pauseOrCancel(work);
      const extent = await this.#upper.extentAt(at, size - at);
      if (extent.depth !== 0) this.#dirty.set(at, extent.length);
      at += extent.length;
    }
    work.leftIs(() => this.#dirty.count);
  }

  /** Copies until nothing is marked; or, of a job that is ready, until it is to end. */
  async #copyUntilClean(work: JobWork): Promise<void> {
    let at = 0;
    try {
      while (!work.isCompleting) {
        await this.#pauseOrCancel(work);
        const dirty = this.#dirty.nextDirty(at) ?? this.#dirty.nextDirty(0);
        if (dirty === undefined) {
          if (this.#pieces.size === 0) return;
          await Promise.all(this.#pieces);
          this.#check();
          continue;
        }
        const length = Math.min(dirty.length, longestPiece);
        if (!(await work.pace(length))) continue;
        if (this.#pieces.size >= parallel) await Promise.race(this.#pieces);
        at = dirty.offset + length;
        const piece: Promise<void> = this.#copyRange(dirty.offset, length).finally(() => {
          this.#pieces.delete(piece);
        });
        this.#pieces.add(piece);
      }
    } finally {
      await Promise.all(this.#pieces);
    }
    this.#check();
  }

  /**
   * Copies what is marked of a range; it never rejects. Of two copies of one range the later one has the newer bytes, and
   * begins when the earlier one has ended.
   */
  #copyRange(offset: number, length: number): Promise<void> {
    const end = offset + length;
    return this.#copies.run(offset, length, async () => {
      for (
        let run = this.#dirty.nextDirty(offset);
        run !== undefined;
        run = this.#dirty.nextDirty(run.offset)
      ) {
        if (run.offset >= end) break;
        await this.#copyRun(run.offset, Math.min(run.offset + run.length, end) - run.offset);
        if (this.#failure !== undefined) break;
      }
    });
  }

  async #copyRun(offset: number, length: number): Promise<void> {
    this.#dirty.clear(offset, length);
    try {
      await this.#upper.copy(offset, length);
      this.#work?.did(length);
    } catch (error) {
      this.#dirty.set(offset, length);
      this.#failure ??= { error };
    }
  }

  async #pauseOrCancel(work: JobWork): Promise<void> {
    if (work.isPausing) {
      await Promise.all(this.#pieces);
      await work.pausePoint();
    }
    if (work.signal.aborted) throw new DiskError('aborted', 'Operation canceled');
    this.#check();
  }

  #untilChanged(): Promise<void> {
    if (this.#dirty.nextDirty(0) !== undefined) return Promise.resolve();
    return new Promise((resolve) => {
      this.#changed = resolve;
    });
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Tells of a failure, and what it is in itself. */
  #told(error: unknown): unknown {
    if (isDiskError(error, 'aborted')) return error;
    this.#work?.failedIn(isDiskError(error) && error.context.op === 'read' ? 'read' : 'write');
    return isDiskError(error) && isDiskError(error.cause) ? error.cause : error;
  }
}
