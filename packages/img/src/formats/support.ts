/** What the command asks of an image format, beyond reading and writing it: the row of `formats` in `open.ts`. */
import type { BitmapChange, BitmapFacts as ListedBitmap } from '@strata/bitmap';
import type { BackingReference, BlockSource, HostFile, HostSource, ImageFormat } from '@strata/block';
import type { WritableChain } from '@strata/chain';
import type { CreationRow, CreationValues } from '../creation.ts';
import type { Objects } from '../objects/objects.ts';
import type { CheckCounts } from '../print/check.ts';
import type { ImageReport } from '../print/info.ts';
import type { NodeOptions } from '../typed/node-options.ts';

/** A format as the command knows it. */
export interface FormatSupport {
  readonly format: ImageFormat;
  /** Its options of `-o`, and nothing of where the file is kept. */
  readonly rows: readonly CreationRow[];
  /**
   * The format as the options of one image set it (`--image-opts`). It takes those that it knows; what is left is
   * refused.
   *
   * @throws {DiskError} invalid, not-supported
   */
  configure?(options: NodeOptions): FormatSupport;
  /**
   * Makes `file` a new empty image. Resolves to true if the new disk reads as zeros: that of a raw image on a
   * device is what the device held.
   *
   * @throws {DiskError} not-supported, invalid, limit, and what the file throws
   */
  create(file: HostFile, image: NewImage): Promise<boolean>;
  /** The facts of an image, read from its own file alone. @throws {DiskError} corrupt, limit, not-supported */
  describe(file: HostSource): Promise<ImageFacts>;
  /** Says what a new image takes; undefined if the format cannot. @throws {DiskError} invalid, limit, and what the disk throws */
  readonly measure: ((request: MeasureRequest) => Promise<Measurement>) | undefined;
  /** The bitmaps that an image keeps and that are sound; undefined if such an image cannot keep any. */
  readonly bitmaps: ((file: HostSource) => Promise<readonly BitmapFacts[] | undefined>) | undefined;
  /** Its images keep dirty bitmaps. */
  readonly keepsBitmaps?: true;
  /** The list of an image's bitmaps, for whoever has only the file; undefined if the format keeps none. */
  readonly bitmapList?: BitmapList;
  /** Changes options of an image; undefined if the format has none that can be changed. */
  readonly amend: AmendSupport | undefined;
  /** Keeps states of a disk inside its image; undefined if the format cannot. */
  readonly snapshots: SnapshotSupport | undefined;
  /**
   * The file in which an image says that its guest data is; undefined if in its own. Images of a format without
   * this have none.
   */
  readonly dataFile?: (file: HostSource) => Promise<string | undefined>;
  /** Looks for damage; undefined if the format has nothing to check. @throws {DiskError} if it is not such an image */
  readonly check: ((file: HostSource) => Promise<CheckOutcome>) | undefined;
  /** Repairs leaks only, or all that can be; the outcome is that of the check on the way. */
  readonly repair: ((file: HostFile, scope: 'leaks' | 'all') => Promise<CheckOutcome>) | undefined;
}

/** The bitmaps of an image that is not open as a disk. All of it throws DiskErrors. */
export interface BitmapList {
  read(file: HostSource): Promise<readonly Pick<ListedBitmap, 'name' | 'enabled' | 'inconsistent'>[]>;
  /** Makes all of `changes`, or none. */
  change(file: HostFile, changes: readonly BitmapChange[]): Promise<void>;
}

/** Changing options that an image was created with. */
export interface AmendSupport {
  readonly rows: readonly CreationRow[];
  /**
   * Makes the changes. `open` opens the image for writing; it may be called several times, one after another.
   *
   * @throws {DiskError} invalid with `op` `rebase` if that is the verb for it; and everything else that it meets
   */
  run(open: () => Promise<WritableChain>, values: CreationValues, how: AmendHow): Promise<void>;
}

/** How options are changed. */
export interface AmendHow {
  readonly progress: (done: number, total: number) => void;
  /** What `--object` defined. */
  readonly objects: Objects;
  /** Changes that can leave an encrypted image without a key are made. */
  readonly force: boolean;
}

/** What is to be measured, and into what. */
export interface MeasureRequest {
  /** Bytes of a disk that holds nothing, or a disk. */
  readonly disk: number | BlockSource;
  /** The bitmaps that the disk's image keeps; undefined if it cannot keep any. */
  readonly bitmaps: readonly BitmapFacts[] | undefined;
  /** The options of the new image that were given. */
  readonly values: CreationValues;
  /** What `--object` defined. */
  readonly objects: Objects;
}

/** A bitmap that an image keeps. */
export interface BitmapFacts {
  readonly name: string;
  readonly granularity: number;
}

/** What a new image takes, in bytes. */
export interface Measurement {
  /** Enough for the disk as it is. */
  readonly required: number;
  /** Enough once all of the disk has been written. */
  readonly fullyAllocated: number;
  /** Beside that, for the bitmaps; undefined if the new image cannot keep any. */
  readonly bitmaps: number | undefined;
}

/** Internal snapshots. All of it throws DiskErrors. */
export interface SnapshotSupport {
  create(file: HostFile, name: string, date: Date): Promise<void>;
  /** Makes the disk what the snapshot with this id or name keeps. */
  apply(file: HostFile, idOrName: string): Promise<void>;
  /** Removes the first snapshot with this name. */
  remove(file: HostFile, name: string): Promise<void>;
}

/** What a new image is to be. */
export interface NewImage {
  /** Bytes the guest sees. */
  readonly size: number;
  readonly backing: BackingReference | undefined;
  /** The file named by `data_file`, if it is among the options, opened to be made anew. */
  readonly dataFile?: HostFile | undefined;
  /** The options given, `size`, `backing_file` and `backing_fmt` among them. */
  readonly values: CreationValues;
  /** What `--object` defined. */
  readonly objects: Objects;
}

/** What `info` prints of an image, but for what its file and its folder tell. */
export type ImageFacts = Omit<ImageReport, 'filename' | 'format' | 'actualSize' | 'backing'> & {
  readonly backing?: BackingReference | undefined;
};

/** The result of a check. */
export interface CheckOutcome {
  readonly counts: CheckCounts;
  /** What was found, a line each, in the words of qemu-img. */
  readonly findings: readonly string[];
  /** Why the check ended before its end; there are no counts worth printing then. */
  readonly failed: string | undefined;
}
