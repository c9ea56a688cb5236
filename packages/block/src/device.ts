/**
 * The contract of a disk: `BlockSource` can be read, `BlockDevice` can be written as well.
 *
 * Read-only is a type and not a flag: code that takes a `BlockSource` cannot write. The `try` twins answer
 * at once from memory or the page cache, or not at all; they exist because a promise costs more than the
 * read it stands for. A wrapper without a fast path returns false or undefined and is still right.
 *
 * What a function named `open...` opened, it closes; a wrapper closes nothing that it was handed.
 */

/**
 * What stands at a range of a disk.
 * - `data`: bytes, stored as they are. - `compressed`: bytes, stored encoded.
 * - `zero`: reads as zeros, takes no space. - `zero-allocated`: reads as zeros, space is reserved.
 * - `hole`: no image of the chain says anything here; reads as zeros.
 */
export type ExtentKind = 'data' | 'compressed' | 'zero' | 'zero-allocated' | 'hole';

/** A run of bytes that are alike. */
export interface Extent {
  readonly offset: number;
  /** At least 1. */
  readonly length: number;
  readonly kind: ExtentKind;
  /** Who decides: 1 the top image, 2 its backing file, and so on; 0 exactly when `kind` is `hole`. */
  readonly depth: number;
}

/** A disk that can be read. */
export interface BlockSource extends AsyncDisposable {
  /** Bytes; an integer of 0 to 2^53 - 1; constant while open. */
  readonly size: number;

  /**
   * Fills all of `into` from `offset`. There are no short reads: a rejected read filled nothing that may be
   * used. `into` is not kept. Any number of calls may be in flight.
   */
  read(into: Uint8Array, offset: number): Promise<void>;

  /** The same without waiting. False: nothing of `into` may be used, call `read`, which also tells errors. */
  tryRead(into: Uint8Array, offset: number): boolean;

  /** Describes the bytes from `offset`: one extent that starts there, 1 to `limit` bytes long. */
  extentAt(offset: number, limit: number): Promise<Extent>;

  /** The same without waiting. Undefined: call `extentAt`. */
  tryExtentAt(offset: number, limit: number): Extent | undefined;

  /**
   * How the bytes of a range get into a socket without coming into our memory. Undefined, or not there at all: they
   * must be read. It is offered where bytes stay at their place in a file as long as they are on the disk, because the
   * kernel sends them from the file's pages, and may do so after the call.
   */
  tryDirect?(offset: number, length: number): DirectSend | undefined;

  /**
   * Where the bytes from `offset` lie just as they are read: a run of 1 to `limit` bytes of a host. Undefined, as
   * where there is no such function: they can only be read.
   */
  placeAt?(offset: number, limit: number): Promise<HostRange | undefined>;
}

/** A run of bytes of a host, for `BlockDevice.copyFrom`. */
export interface HostRange {
  readonly host: BlockSource;
  readonly at: number;
  readonly length: number;
}

/**
 * Sends bytes from `offset` of the disk to a stream socket, at once and as many as it takes, up to `length`. Returns how
 * many; 0 also for every failure, which reading the same bytes tells. To be called in the turn in which it was given.
 */
export type DirectSend = (socket: number, offset: number, length: number) => number;

/** How a range is to be made zero. */
export interface ZeroOptions {
  /** Rejects with `not-supported`, and changes nothing, where zeros would have to be written out. */
  readonly fast?: boolean;
  /** Leaves the range allocated, so that a later write cannot run out of space. */
  readonly allocate?: boolean;
}

/** A disk that can be written as well. Any number of calls may be in flight; overlapping ones do not mix bytes. */
export interface BlockDevice extends BlockSource {
  readonly caps: Capabilities;

  /** Writes all of `from` at `offset`, or rejects. `from` must stay unchanged until it settles; it is not kept. */
  write(from: Uint8Array, offset: number): Promise<void>;

  /**
   * As `write`, by a copy inside the host, through no memory of ours. False, as where there is no such function:
   * the host cannot do that, and what stands in the range then is unknown until it is written.
   */
  copyFrom?(from: HostRange, offset: number): Promise<boolean>;

  /** Makes a range read as zeros. */
  zero(offset: number, length: number, how?: ZeroOptions): Promise<void>;

  /** Advice that a range is no longer needed. It then reads as its old bytes or as zeros, never as a backing image's. */
  discard(offset: number, length: number): Promise<void>;

  /** Resolves once every write that had resolved before the call would survive a power cut. */
  flush(): Promise<void>;
}

/** Decided at open and frozen. Permission to write is not here: it is the type. */
export interface Capabilities {
  /** Bytes, a power of two; writes aligned to it need no read first. */
  readonly blockSize: number;
  /** `native`: `zero` costs no data transfer. `emulated`: zeros are written out. */
  readonly zero: 'native' | 'emulated';
  /** `native`: `discard` gives space back. `ignored`: it does nothing. */
  readonly discard: 'native' | 'ignored';
}

/**
 * Where an image is kept: a host file, memory, a block device. It differs from a disk in one way: it has no
 * fixed end. Bytes past `size` read as zeros (formats let their last cluster reach past the end of the file).
 */
export interface HostSource extends BlockSource {
  /** The end at this moment. */
  readonly size: number;
  /** For messages and relative names; undefined for what has none. */
  readonly path: string | undefined;
  /** Bytes that the host really spends on it; undefined where the host does not tell. */
  allocated(): Promise<number | undefined>;
  /**
   * Words that tell this state of the file from every other: whoever changes it changes them. Undefined, or not there,
   * where the host cannot tell.
   */
  stamp?(): Promise<string | undefined>;
}

/** A host file that can be written. A write past the end extends it. */
export interface HostFile extends BlockDevice {
  readonly size: number;
  readonly path: string | undefined;
  allocated(): Promise<number | undefined>;
  stamp?(): Promise<string | undefined>;
  /**
   * The stamp once all that was written is durable, and the stamp with it; the next change, however soon, is told by it.
   * It may take as long as the host's clock needs to move on.
   */
  seal?(): Promise<string | undefined>;
  /** Cuts the file, or extends it with zeros. */
  truncate(size: number): Promise<void>;
}
