/**
 * The contract of one image in a chain: it says where its bytes lie, and never fetches another image's.
 *
 * *Where is it* is kept apart from *fetch it*. A layer maps an offset to bytes that lie raw in a file, to
 * encoded bytes that only it can read, to zeros, or to `below`: not mine. It never opens, reads or knows
 * the layer under it; a write that needs the old bytes of a cluster is handed `below` to read them from.
 */

import type { BlockSource, Capabilities, HostFile, HostRange, HostSource, ZeroOptions } from './device.ts';
import type { Preallocation } from './preallocate.ts';

/** What an image says of the image under it. Untrusted text: an `OpenGate` judges it. */
export interface BackingReference {
  /** As recorded in the image. */
  readonly name: string;
  /** The recorded format, if one is recorded. */
  readonly format: string | undefined;
}

/** Where the bytes of a range are, as far as one layer knows. `length` is 1 to the limit that was asked for. */
export type Mapping = { readonly length: number } & (
  | {
      readonly kind: 'raw';
      /** Holds the bytes as they are, from `at` on. */
      readonly device: BlockSource;
      readonly at: number;
      /** True: the device's own extents tell which of the bytes are zeros. False: all count as data. */
      readonly sparse: boolean;
    }
  | { readonly kind: 'encoded' }
  | {
      readonly kind: 'zero';
      /** Where in its file space is reserved for the range; undefined if none is. */
      readonly at: number | undefined;
    }
  | {
      readonly kind: 'below';
      /** Where in its file the layer has room for the range, of which nothing is used; not there if it has none. */
      readonly at?: number;
    }
);

/** One image of a chain, for reading. */
export interface LayerSource extends AsyncDisposable {
  /** Bytes the guest sees. Another layer of the chain may be longer or shorter. */
  readonly size: number;
  /** Undefined: nothing is below, and `below` means zeros that nobody wrote. */
  readonly backing: BackingReference | undefined;
  /** The format's name as `-f` takes it. */
  readonly format: string;

  /** Where `offset` and what follows it lie: one answer for as long a run as is cheap to know. `offset < size`. */
  map(offset: number, limit: number): Promise<Mapping>;
  /** The same without waiting. Undefined: call `map`. */
  tryMap(offset: number, limit: number): Mapping | undefined;
  /** Fills `into` with bytes of a range that `map` called `encoded`. */
  readEncoded(into: Uint8Array, offset: number): Promise<void>;
}

/** How the size of an image is changed. */
export interface ResizeOptions {
  /** How the space of what is added is had; `off` if not given. Nothing is added to a disk that shrinks. */
  readonly preallocation?: Preallocation;
}

/** What a layer that can store compressed bytes says of it. */
export interface Compression {
  /** Bytes that are compressed together; a power of two. */
  readonly unit: number;
  /** The levels there are, the strongest last. */
  readonly levels: { readonly least: number; readonly most: number };
}

/** How to compress. */
export interface CompressOptions {
  /** One of the levels there are; undefined: one that is fast. */
  readonly level?: number | undefined;
}

/**
 * One image of a chain, for writing. `below` is what lies under it, at least as long as the layer itself,
 * zeros where nothing is. Overlapping calls are serialised by the layer.
 */
export interface Layer extends LayerSource {
  readonly caps: Capabilities;
  write(from: Uint8Array, offset: number, below: BlockSource): Promise<void>;
  /** As `BlockDevice.copyFrom`. */
  copyFrom?(from: HostRange, offset: number, below: BlockSource): Promise<boolean>;
  /** Undefined where the format has no compression, and no `writeCompressed` then. */
  readonly compression?: Compression;
  /**
   * As `write`, stored compressed where that makes it shorter: multiples of `compression.unit`, but for the end of
   * the disk. Calls may overlap in time, and are given their places in the file in the order in which they are
   * made, so that the same calls make the same file.
   *
   * @throws {DiskError} invalid, not-supported
   */
  writeCompressed?(
    from: Uint8Array,
    offset: number,
    below: BlockSource,
    how?: CompressOptions,
  ): Promise<void>;
  zero(offset: number, length: number, below: BlockSource, how?: ZeroOptions): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  /** As `BlockDevice.flush`: data and the tables that lead to it. */
  flush(): Promise<void>;
  /**
   * Drops all that this layer holds: every range maps to `below` afterwards.
   * @throws {DiskError} not-supported where the format has no such state
   */
  empty(): Promise<void>;
  /**
   * Changes `size`; what is added reads as zeros. `below` is at least as long as the new size: where it holds
   * data past the old end, the layer hides it. What a smaller size cuts off is lost.
   *
   * @throws {DiskError} invalid, limit, not-supported, no-space
   */
  resize(size: number, below: BlockSource, how?: ResizeOptions): Promise<void>;
  /**
   * Records another backing file, or none, in one step that a power cut cannot divide: all that was written
   * before is durable first. The layer itself goes on as before; open it again to use what is below now. Without
   * this the format records no backing file.
   *
   * @throws {DiskError} invalid, no-space if the image has no room for the name
   */
  changeBacking?(reference: BackingReference | undefined): Promise<void>;
}

/** What an image may need from whoever opens it, beside its own file. */
export interface OpenImageOptions<Host extends HostSource> {
  /**
   * Opens the file in which the image keeps its guest data. `name` is what the image says, untrusted text: the
   * opener judges it, and closes the file after the layer. Without it no image opens that has such a file.
   */
  readonly openDataFile?: (name: string) => Promise<Host>;
}

/** Which internal snapshot of an image is meant. */
export type SnapshotChoice =
  /** The one with this id; if no id is this, the first with this name. */
  | { readonly idOrName: string }
  /** The first of which both are right, as far as they are given. */
  | { readonly id: string | undefined; readonly name: string | undefined };

/** What of an image is opened for reading. */
export interface OpenSourceOptions extends OpenImageOptions<HostSource> {
  /** The disk as this internal snapshot keeps it, instead of the disk as it is. */
  readonly snapshot?: SnapshotChoice;
}

/** An image format: how to know it and how to open it. The chain is given these and knows no format itself. */
export interface ImageFormat {
  /** As `-f` takes it and as backing references record it. */
  readonly name: string;
  /** True: one writer at most, and no writer beside readers (formats with tables of their own). */
  readonly exclusive: boolean;
  /** True if the first bytes of a file are this format's. `head` is up to 512 bytes. */
  matches(head: Uint8Array): boolean;
  /**
   * Opens for reading. The file stays the caller's. If the snapshot that is asked for cannot be had, the
   * error's `context.op` is `snapshot`.
   *
   * @throws {DiskError} corrupt, limit, not-supported, not-found
   */
  openSource(file: HostSource, options?: OpenSourceOptions): Promise<LayerSource>;
  /** Opens for writing. The file stays the caller's. @throws {DiskError} corrupt, limit, not-supported */
  open(file: HostFile, options?: OpenImageOptions<HostFile>): Promise<Layer>;
}
