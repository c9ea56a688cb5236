/**
 * Commit of images under the top of a disk in use: what they hold goes down into a base, and they drop out of the chain.
 *
 * Guests write to the top only, so what is copied stays as it is. The base is complete and durable before the image above
 * names it as its backing file; so at every moment the chain as it is recorded shows the guest's content.
 *
 * QEMU: block/commit.c.
 */
import { resolve } from 'node:path';
import { type BackingReference, DiskError, isDiskError } from '@strata/block';
import { type ChainImage, closeImage, schemeOf } from '@strata/chain';
import { longestPiece } from '../backup/copier.ts';
import { toRead, toWrite } from '../image-use.ts';
import type { JobTask, JobWork } from '../jobs/task.ts';
import type { Claim, LiveDisk, LiveNode } from '../live-disk.ts';
import { closeBase, type OpenBase, openBase } from './base-node.ts';
import { UpperImages } from './upper-images.ts';

/** What is to be committed. */
export interface CommitOptions {
  readonly disk: LiveDisk;
  /** The topmost image that goes down, by its place in the disk's nodes; not the disk's top. */
  readonly top: number;
  /** The image that it goes into. */
  readonly base: number;
  /** What the image above records as its backing file; the path of the base if not given. */
  readonly backingFile?: string | undefined;
  /** Hears of the images that have dropped out, when they are closed. */
  readonly onDropped?: ((nodes: readonly LiveNode[]) => void) | undefined;
}

/** Pieces in flight. */
const parallel = 4;

/**
 * Prepares to commit. The disk is paused, and may go on when this has resolved.
 * @param stop ends the job; called when the disk is closed
 * @throws {DiskError} busy, and what opening the base for writing throws
 */
export async function prepareCommit(options: CommitOptions, stop: () => Promise<void>): Promise<CommitTask> {
  const { disk } = options;
  const claim = disk.claim('block job: commit', stop);
  try {
    return new CommitTask(options, await openBase(disk, options.base), claim);
  } catch (error) {
    claim.end();
    throw error;
  }
}

/** What a commit of images under the top does. */
export class CommitTask implements JobTask {
  readonly type = 'commit';
  readonly node: string;
  readonly #disk: LiveDisk;
  readonly #upper: UpperImages;
  readonly #nodes: readonly LiveNode[];
  readonly #above: LiveNode;
  readonly #base: OpenBase;
  readonly #claim: Claim;
  readonly #backingFile: string | undefined;
  readonly #onDropped: CommitOptions['onDropped'];
  #isBaseOpen = true;

  /** Made by `prepareCommit`. */
  constructor({ disk, top, base, backingFile, onDropped }: CommitOptions, opened: OpenBase, claim: Claim) {
    this.node = disk.top.name;
    this.#disk = disk;
    this.#nodes = disk.nodes.slice(top, base);
    this.#above = disk.nodes[top - 1] as LiveNode;
    this.#base = opened;
    this.#claim = claim;
    this.#backingFile = backingFile;
    this.#onDropped = onDropped;
    this.#upper = new UpperImages(this.#nodes, opened.image, disk.nodes.slice(base + 1));
  }

  async run(work: JobWork): Promise<void> {
    try {
      const { size } = this.#upper.source;
      await this.#upper.growBase();
      await this.#copyAll(work, size);
      await this.#upper.hideTail(this.#disk.size);
      await this.#upper.target.flush();
    } catch (error) {
      if (isDiskError(error, 'aborted')) throw error;
      work.failedIn(isDiskError(error) && error.context.op === 'read' ? 'read' : 'write');
      throw isDiskError(error) && isDiskError(error.cause) ? error.cause : error;
    }
  }

  /** Takes the images out of the chain. */
  async prepare(): Promise<void> {
    const { image } = this.#base;
    const reference = { name: this.#backingFile ?? recordable(image.path), format: image.format.name };
    await this.#disk.paused(async () => {
      const above = await this.#record(reference);
      const kept = this.#disk.nodes.filter((node) => !this.#nodes.includes(node));
      this.#disk.exchange(kept.map((node) => (node.name === above.name ? above : node)));
    });
    for (const node of this.#nodes) await closeImage(node.image).catch(() => undefined);
    this.#onDropped?.(this.#nodes);
  }

  async clean(): Promise<void> {
    try {
      if (this.#isBaseOpen) await this.#disk.paused(() => closeBase(this.#disk, this.#base));
    } finally {
      this.#isBaseOpen = false;
      this.#claim.end();
    }
  }

  async #copyAll(work: JobWork, size: number): Promise<void> {
    const pieces = new Set<Promise<void>>();
    let failure: { readonly error: unknown } | undefined;
    let left = size;
    work.leftIs(() => left);
    const did = (length: number): void => {
      left -= length;
      work.did(length);
    };
    try {
      for (let at = 0; at < size && failure === undefined; ) {
        if (work.isPausing) {
          await Promise.all(pieces);
          await work.pausePoint();
        }
        if (work.signal.aborted) throw new DiskError('aborted', 'Operation canceled');
        const extent = await this.#upper.extentAt(at, size - at);
        if (extent.depth === 0) {
          did(extent.length);
          at += extent.length;
          continue;
        }
        const length = Math.min(longestPiece - (at % longestPiece), size - at);
        if (!(await work.pace(length))) continue;
        if (pieces.size >= parallel) await Promise.race(pieces);
        const piece: Promise<void> = this.#upper
          .copy(at, length)
          .then(
            () => did(length),
            (error: unknown) => {
              failure ??= { error };
            },
          )
          .finally(() => pieces.delete(piece));
        pieces.add(piece);
        at += length;
      }
    } finally {
      await Promise.all(pieces);
    }
    if (failure !== undefined) throw failure.error;
  }

  /** Has the image above the committed ones name the base. @throws {DiskError} as `Layer.changeBacking` */
  async #record(reference: BackingReference): Promise<LiveNode> {
    const { name, image, writable } = this.#above;
    if (writable !== undefined) {
      await changeBacking(writable.layer, reference);
      return this.#above;
    }
    const opened = await toWrite(image);
    let read: ChainImage;
    try {
      await changeBacking(opened.layer, reference);
    } finally {
      ({ image: read } = await toRead(opened));
      const node = { name, image: read, writable: undefined };
      this.#disk.exchange(this.#disk.nodes.map((each) => (each.name === name ? node : each)));
      await closeImage(image).catch(() => undefined);
    }
    return { name, image: read, writable: undefined };
  }
}

/** A name that leads to the image from everywhere. */
function recordable(path: string): string {
  return schemeOf(path) === undefined ? resolve(path) : path;
}

async function changeBacking(
  layer: { changeBacking?(reference: BackingReference): Promise<void> },
  reference: BackingReference,
): Promise<void> {
  if (layer.changeBacking === undefined) {
    throw new DiskError('not-supported', 'the image above records no backing file');
  }
  await layer.changeBacking(reference);
}
