/**
 * A disk that stays usable while the images under it change.
 *
 * It is a gate like `checkedDevice`, and costs what that costs: calls go straight to the chain of the moment, or to
 * the filter that a job has put before it. What changes the structure pauses the disk: calls that come wait, those
 * in flight are waited for, and then everything may be exchanged at once. Reads and writes never fail of that.
 *
 * A disk can stand on another one (`below`): its layers go on with the other's, whatever these are at the moment, and
 * pausing the lower one pauses both.
 */
import {
  type BlockDevice,
  type Capabilities,
  checkRange,
  type DirectSend,
  DiskError,
  type Extent,
  type LayerSource,
  type ZeroOptions,
} from '@strata/block';
import { ChainDevice, type ChainImage, ChainSource, closeImage, type WritableImage } from '@strata/chain';
import { type Resume, Traffic } from './traffic.ts';
import { unwritable } from './unwritable.ts';

/** An image in use, under the name it is known by. */
export interface LiveNode {
  readonly name: string;
  readonly image: ChainImage;
  /** The same image, if it is open for writing. */
  readonly writable: WritableImage | undefined;
}

/** What a job puts between a disk and its images. It is called with valid ranges only, and never with empty ones. */
export interface LiveFilter {
  /** The disk as it is to be seen. `images` are the images; they are exchanged only while the disk is paused. */
  over(images: BlockDevice): BlockDevice;
}

/** A job's use of a disk: until it is ended no other job begins on it, and its structure stays. */
export interface Claim {
  end(): void;
}

/** Images, top first, as one disk that is in use. */
export class LiveDisk implements BlockDevice {
  readonly size: number;
  readonly caps: Capabilities;
  readonly #below: LiveDisk | undefined;
  /** Disks that stand on this one. */
  readonly #above = new Set<LiveDisk>();
  #nodes: readonly LiveNode[];
  #images: BlockDevice;
  #current: BlockDevice;
  #filter: LiveFilter | undefined;
  #claim: { readonly what: string; readonly stop: () => Promise<void> } | undefined;
  readonly #traffic = new Traffic();
  #closing: Promise<void> | undefined;
  #isClosed = false;

  /**
   * Takes over the images of `nodes`: disposing of the disk closes them. `below` stays the caller's, and is closed after it.
   * @param nodes at least one
   */
  constructor(nodes: readonly LiveNode[], below?: LiveDisk) {
    const [top] = nodes;
    if (top === undefined) throw new RangeError('a disk of no images');
    this.#nodes = nodes;
    this.#below = below;
    this.size = top.image.layer.size;
    this.#images = this.#chain();
    this.#current = this.#images;
    this.caps = Object.freeze({ ...this.#images.caps });
    if (below !== undefined) below.#above.add(this);
  }

  /** The images, top first, without those of the disk that it stands on. */
  get nodes(): readonly LiveNode[] {
    return this.#nodes;
  }

  get top(): LiveNode {
    return this.#nodes[0] as LiveNode;
  }

  /** The disk under the last image. */
  get below(): LiveDisk | undefined {
    return this.#below;
  }

  /** The disks that stand on this one. */
  get above(): ReadonlySet<LiveDisk> {
    return this.#above;
  }

  /** The images as a disk: what jobs read and write. It does not wait while the disk is paused. */
  get images(): BlockDevice {
    return this.#images;
  }

  /** The layers that the disk is read from, top first. */
  get layers(): readonly LayerSource[] {
    return [...this.#nodes.map(({ image }) => image.layer), ...(this.#below?.layers ?? [])];
  }

  /** Who uses the disk in a way that its structure must stay as it is; undefined: nobody. */
  get busyWith(): string | undefined {
    return this.#claim?.what;
  }

  /**
   * Holds the structure for a job. `stop` ends the job when the disk is closed.
   * @param what for the sentence of the refusal that others get
   * @throws {DiskError} busy
   */
  claim(what: string, stop: () => Promise<void>): Claim {
    this.checkFree();
    const claim = { what, stop };
    this.#claim = claim;
    return {
      end: () => {
        if (this.#claim === claim) this.#claim = undefined;
      },
    };
  }

  /** @throws {DiskError} busy, in QEMU's words; closed */
  checkFree(): void {
    this.#checkOpen();
    if (this.#claim === undefined) return;
    const { what } = this.#claim;
    throw new DiskError('busy', `Node '${this.top.name}' is busy: block device is in use by ${what}`);
  }

  /**
   * Makes calls wait, also those of the disks above, and resolves when none is in flight. Pauses add up: the last to end
   * lets the calls go on.
   */
  async pause(): Promise<Resume> {
    const disks = [this, ...this.#allAbove()];
    const resumes = disks.map((disk) => disk.#traffic.hold());
    await Promise.all(disks.map((disk) => disk.#traffic.untilIdle()));
    return () => resumes.forEach((resume) => void resume());
  }

  /** Runs `change` while the disk is paused. */
  async paused<T>(change: () => Promise<T>): Promise<T> {
    const resume = await this.pause();
    try {
      return await change();
    } finally {
      resume();
    }
  }

  /** Exchanges the images; the disk is paused. Images that are left out are the caller's from now on. */
  exchange(nodes: readonly LiveNode[]): void {
    this.#checkPaused();
    this.#nodes = nodes;
    this.#rebuild();
  }

  /** Puts a filter before the images, or takes it away; the disk is paused. */
  filterWith(filter: LiveFilter | undefined): void {
    this.#checkPaused();
    this.#filter = filter;
    this.#rebuild();
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    this.#check(offset, into.length);
    while (this.#traffic.held !== undefined) await this.#traffic.held;
    this.#enter();
    try {
      if (into.length > 0) await this.#current.read(into, offset);
    } finally {
      this.#traffic.leave();
    }
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    this.#check(offset, into.length);
    if (this.#traffic.held !== undefined) return false;
    return into.length === 0 || this.#current.tryRead(into, offset);
  }

  async extentAt(offset: number, limit: number): Promise<Extent> {
    const most = this.#extentLimit(offset, limit);
    while (this.#traffic.held !== undefined) await this.#traffic.held;
    this.#enter();
    try {
      return await this.#current.extentAt(offset, most);
    } finally {
      this.#traffic.leave();
    }
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    const most = this.#extentLimit(offset, limit);
    return this.#traffic.held === undefined ? this.#current.tryExtentAt(offset, most) : undefined;
  }

  tryDirect(offset: number, length: number): DirectSend | undefined {
    this.#check(offset, length);
    return this.#traffic.held === undefined ? this.#current.tryDirect?.(offset, length) : undefined;
  }

  async write(from: Uint8Array, offset: number): Promise<void> {
    this.#check(offset, from.length);
    while (this.#traffic.held !== undefined) await this.#traffic.held;
    this.#enter();
    try {
      if (from.length > 0) await this.#current.write(from, offset);
    } finally {
      this.#traffic.leave();
    }
  }

  async zero(offset: number, length: number, how?: ZeroOptions): Promise<void> {
    this.#check(offset, length);
    while (this.#traffic.held !== undefined) await this.#traffic.held;
    this.#enter();
    try {
      if (length > 0) await this.#current.zero(offset, length, how);
    } finally {
      this.#traffic.leave();
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
    while (this.#traffic.held !== undefined) await this.#traffic.held;
    this.#enter();
    try {
      if (length > 0) await this.#current.discard(offset, length);
    } finally {
      this.#traffic.leave();
    }
  }

  async flush(): Promise<void> {
    this.#checkOpen();
    while (this.#traffic.held !== undefined) await this.#traffic.held;
    this.#enter();
    try {
      await this.#current.flush();
    } finally {
      this.#traffic.leave();
    }
  }

  /** Ends the job that uses the disk, waits for what is in flight and closes the images. No disk may stand on it any more. */
  [Symbol.asyncDispose](): Promise<void> {
    if (this.#above.size > 0) {
      return Promise.reject(new RangeError('a disk is closed on which another one stands'));
    }
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#isClosed = true;
    await this.#claim?.stop();
    await this.#traffic.untilIdle();
    if (this.#below !== undefined) this.#below.#above.delete(this);
    const failures: unknown[] = [];
    for (const { image } of this.#nodes) {
      await closeImage(image).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  #chain(): BlockDevice {
    const [top, ...rest] = this.layers;
    const { writable } = this.top;
    if (writable !== undefined) return new ChainDevice(writable.layer, rest);
    return unwritable(new ChainSource([top as LayerSource, ...rest], this.size));
  }

  #rebuild(): void {
    this.#images = this.#chain();
    this.#current = this.#filter?.over(this.#images) ?? this.#images;
    for (const disk of this.#above) disk.#rebuild();
  }

  #allAbove(): readonly LiveDisk[] {
    return [...this.#above].flatMap((disk) => [disk, ...disk.#allAbove()]);
  }

  #checkPaused(): void {
    if (!this.#traffic.isPaused) throw new RangeError('the disk is not paused');
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new DiskError('closed', 'the disk is closed');
  }

  #check(offset: number, length: number): void {
    this.#checkOpen();
    checkRange(offset, length, this.size);
  }

  #extentLimit(offset: number, limit: number): number {
    this.#check(offset, 1);
    if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError(`extent of at most ${limit} bytes`);
    return Math.min(limit, this.size - offset);
  }

  /** Counts a call that may have waited meanwhile. */
  #enter(): void {
    this.#checkOpen();
    this.#traffic.enter();
  }
}
