/**
 * Backup of a disk in use: another disk gets what it holds at one moment, the start of the job.
 *
 * The moment is had by copying before writing. The job goes through what is to be copied beside that; with `none` it does
 * not, and the target shows the moment only as long as the disk is under it (fleecing).
 *
 * QEMU: block/backup.c, block/copy-before-write.c; QEMU documentation, "Live Block Device Operations".
 */
import { DirtyBitmap, type DirtyRange } from '@strata/bitmap';
import { DiskError, isDiskError, readsAsZeros } from '@strata/block';
import type { JobTask, JobWork } from '../jobs/task.ts';
import type { Claim, LiveDisk } from '../live-disk.ts';
import { Copier, longestPiece } from './copier.ts';
import { CopyBeforeWrite } from './copy-before-write.ts';
import { FleecingReads } from './fleecing.ts';
import { type BitmapMode, type BitmapPlace, type SyncBitmap, takeBitmap } from './sync-bitmap.ts';

/** What is copied: all, what the top image holds, what a bitmap says, or only what is about to change. */
export type BackupSync = 'full' | 'top' | 'incremental' | 'bitmap' | 'none';

/** What to back up, and how. */
export interface BackupOptions {
  readonly source: LiveDisk;
  readonly target: LiveDisk;
  readonly sync: BackupSync;
  readonly bitmap?: BitmapPlace | undefined;
  readonly bitmapMode?: BitmapMode | undefined;
}

/** QEMU's least. */
const leastCluster = 65_536;
/** Pieces in flight. */
const parallel = 4;
/** Zeros of one piece: a job that is paused or cancelled waits for it. */
const longestZero = 1 << 30;

/** @throws {DiskError} invalid, in QEMU's words */
export function checkBackup({ source, target, sync, bitmap, bitmapMode }: BackupOptions): void {
  if (source === target) throw new DiskError('invalid', 'Source and target cannot be the same');
  const isByBitmap = sync === 'incremental' || sync === 'bitmap';
  if (isByBitmap && bitmap === undefined)
    throw new DiskError('invalid', `must provide a valid bitmap name for '${sync}' sync mode`);
  if (sync === 'incremental' && (bitmapMode ?? 'on-success') !== 'on-success') {
    const message = "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'";
    throw new DiskError('invalid', message);
  }
  if (bitmap === undefined && bitmapMode !== undefined)
    throw new DiskError('invalid', 'Cannot specify bitmap sync mode without a bitmap');
  if (bitmap !== undefined && bitmapMode === undefined && sync !== 'incremental')
    throw new DiskError('invalid', 'Bitmap sync mode must be given when providing a bitmap');
  if (bitmap !== undefined && sync === 'none')
    throw new DiskError('invalid', "sync mode 'none' does not produce meaningful bitmap outputs");
  if (bitmap !== undefined && bitmapMode === 'never' && !isByBitmap) {
    const message = `Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '${sync}'`;
    throw new DiskError('invalid', message);
  }
  if (source.size !== target.size)
    throw new DiskError('invalid', 'Source and target image have different sizes');
}

/**
 * Prepares a backup whose moment is now. Both disks are paused; they may go on as soon as this has resolved, and the result
 * must be run as a job or aborted and cleaned.
 *
 * @param stop ends the job; called when one of the disks is closed
 * @throws {DiskError} invalid, busy, not-found, read-only
 */
export async function prepareBackup(options: BackupOptions, stop: () => Promise<void>): Promise<BackupTask> {
  checkBackup(options);
  const { source, target, bitmap, sync, bitmapMode = 'on-success' } = options;
  if (target.top.writable === undefined) throw new DiskError('read-only', 'Block node is read-only');
  target.checkFree();
  source.checkFree();
  const synced = bitmap && (await takeBitmap(bitmap, bitmapMode));
  const what = 'block job: backup';
  const claims = [source.claim(what, stop), target.claim(what, stop)];
  return new BackupTask(source, target, sync, synced, claims);
}

/** What a backup does. */
export class BackupTask implements JobTask {
  readonly type = 'backup';
  readonly startsPaused = true;
  readonly node: string;
  readonly #source: LiveDisk;
  readonly #target: LiveDisk;
  readonly #sync: BackupSync;
  readonly #synced: SyncBitmap | undefined;
  readonly #claims: readonly Claim[];
  readonly #copier: Copier;
  readonly #copies: CopyBeforeWrite;
  readonly #fleecing: FleecingReads | undefined;
  #work: JobWork | undefined;
  #copied = 0;
  #failure: { readonly error: unknown } | undefined;
  #failed: () => void = () => undefined;

  /** Made by `prepareBackup`. */
  constructor(
    source: LiveDisk,
    target: LiveDisk,
    sync: BackupSync,
    synced: SyncBitmap | undefined,
    claims: readonly Claim[],
  ) {
    this.node = source.top.name;
    this.#source = source;
    this.#target = target;
    this.#sync = sync;
    this.#synced = synced;
    this.#claims = claims;
    const isFleecing = target.below === source;
    this.#copier = new Copier(
      () => source.images,
      () => target.images,
      { fillsHoles: isFleecing },
    );
    const cluster = Math.max(leastCluster, target.images.caps.blockSize);
    const remaining = new DirtyBitmap(source.size, cluster);
    if (synced !== undefined && (sync === 'incremental' || sync === 'bitmap'))
      remaining.merge(synced.content);
    else remaining.setAll();
    this.#copies = new CopyBeforeWrite(
      remaining,
      (offset, length) => this.#copyOut(offset, length),
      (error) => this.#fail(error),
    );
    source.filterWith(this.#copies);
    this.#fleecing = isFleecing ? new FleecingReads() : undefined;
    if (this.#fleecing !== undefined) target.filterWith(this.#fleecing);
  }

  /** True if the target shows the moment through the disk under it. */
  get isFleecing(): boolean {
    return this.#fleecing !== undefined;
  }

  async run(work: JobWork): Promise<void> {
    this.#work = work;
    work.did(this.#copied);
    work.leftIs(() => this.#copies.remaining.count);
    try {
      await (this.#sync === 'none' ? this.#untilCancelled(work) : this.#copyAll(work));
      await this.#target.images.flush();
    } catch (error) {
      // A piece that failed has failed all of it, whoever copied it.
      const cause = this.#failure?.error ?? error;
      if (!isDiskError(cause, 'aborted')) work.failedIn(operationOf(cause));
      throw causeOf(cause);
    }
  }

  async commit(): Promise<void> {
    await this.#synced?.finish(true, this.#copies.remaining);
  }

  async abort(): Promise<void> {
    await this.#synced?.finish(false, this.#copies.remaining);
  }

  async clean(): Promise<void> {
    const resumes = await Promise.all([this.#source.pause(), this.#target.pause()]);
    try {
      await this.#copies.untilIdle();
      this.#source.filterWith(undefined);
      // A target that failed keeps telling so: it is not what the disk was.
      if (this.#fleecing !== undefined && this.#failure === undefined) this.#target.filterWith(undefined);
      for (const claim of this.#claims) claim.end();
    } finally {
      for (const resume of resumes) resume();
    }
  }

  async #untilCancelled(work: JobWork): Promise<void> {
    while (!work.signal.aborted && this.#failure === undefined) {
      if (work.isPausing) await work.pausePoint();
      else await Promise.race([work.attention(), this.#untilFailed()]);
    }
    this.#check(work);
  }

  /** Goes through what is to be copied, several pieces at once. */
  async #copyAll(work: JobWork): Promise<void> {
    const { remaining } = this.#copies;
    const pieces = new Set<Promise<void>>();
    let at = 0;
    try {
      for (;;) {
        if (work.isPausing) {
          await Promise.all(pieces);
          await work.pausePoint();
        }
        this.#check(work);
        const dirty = remaining.nextDirty(at);
        if (dirty === undefined) break;
        at = dirty.offset;
        const { length, moved } = this.#nextPiece(dirty);
        if (!(await work.pace(moved))) continue;
        if (pieces.size >= parallel) await Promise.race(pieces);
        // A guest may have come first meanwhile; and a piece is of clusters that nobody has begun.
        const now = remaining.nextDirty(at);
        if (now?.offset !== at || work.signal.aborted) continue;
        const piece = this.#copies.copy(at, Math.min(now.length, length));
        const ended = piece.then(
          () => void pieces.delete(ended),
          () => void pieces.delete(ended),
        );
        pieces.add(ended);
      }
    } finally {
      await Promise.all(pieces);
      await this.#copies.untilIdle();
    }
    this.#check(work);
  }

  /** How much of a run to copy next: zeros, and what is left out, at one go. */
  #nextPiece({ offset, length }: DirtyRange): { readonly length: number; readonly moved: number } {
    const { granularity } = this.#copies.remaining;
    const extent = this.#source.images.tryExtentAt(offset, Math.min(length, longestZero));
    const isFree =
      extent !== undefined && (readsAsZeros(extent) || (this.#sync === 'top' && extent.depth > 1));
    const whole = isFree ? Math.floor(extent.length / granularity) * granularity : 0;
    const piece = Math.min(length, Math.max(longestPiece, granularity));
    return whole > piece ? { length: whole, moved: 0 } : { length: piece, moved: piece };
  }

  async #copyOut(offset: number, length: number): Promise<void> {
    if (this.#sync !== 'top') {
      await this.#copier.copy(offset, length);
      this.#tell(length);
    } else {
      await this.#copyTop(offset, length);
    }
    await this.#fleecing?.readsOf(offset, length);
  }

  /** Copies the clusters of which the top image holds a part. */
  async #copyTop(offset: number, length: number): Promise<void> {
    const { granularity } = this.#copies.remaining;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const held = await this.#copier.nextInTop(at, end - at);
      const from = held === undefined ? end : held - ((held - offset) % granularity);
      const to = Math.min(from + granularity, end);
      if (held !== undefined) await this.#copier.copy(from, to - from);
      this.#tell(to - from);
      at = to;
    }
  }

  #tell(copied: number): void {
    this.#copied += copied;
    this.#work?.did(copied);
  }

  #fail(error: unknown): void {
    this.#failure = { error };
    this.#fleecing?.fail(causeOf(error));
    this.#failed();
  }

  #untilFailed(): Promise<void> {
    return new Promise((resolve) => {
      this.#failed = resolve;
    });
  }

  #check({ signal }: JobWork): void {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (signal.aborted) throw new DiskError('aborted', 'Operation canceled');
  }
}

function operationOf(error: unknown): 'read' | 'write' {
  return isDiskError(error) && error.context.op === 'read' ? 'read' : 'write';
}

/** The failure itself, without the step in which it happened. */
function causeOf(error: unknown): unknown {
  return isDiskError(error) && error.cause !== undefined && isDiskError(error.cause) ? error.cause : error;
}
