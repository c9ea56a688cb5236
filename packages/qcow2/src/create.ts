/**
 * Creates an empty image, laid out as QEMU lays it out.
 *
 * Header, refcount table, the first refcount block, the L1 table, and behind it the refcount blocks that a
 * long L1 table needs. All of it but the header and the refcounts is zeros, so that is all that is written.
 * Where one cluster is too small for the refcount table (512-byte clusters and an L1 table of many
 * megabytes) QEMU moves the table to the end of the file; here it is as long as it must be from the start.
 *
 * Spec: qcow2.txt, "Header" and "Host cluster management".
 */
import {
  type BackingReference,
  DiskError,
  type HostFile,
  isDiskError,
  type Preallocation,
  spendSpace,
} from '@strata/block';
import { encryptNew, type NewEncryption, planEncryption } from './encrypt.ts';
import { encodeHigh, encodeLow, setEntry, tableOf, writeRefcount } from './entries.ts';
import { noExtensions, qemuFeatureNames } from './extensions.ts';
import {
  Autoclear,
  Compatible,
  Compression,
  Encryption,
  Incompatible,
  MAX_BACKING_NAME,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MIN_CLUSTER_BITS,
} from './format.ts';
import {
  clustersFor,
  type Geometry,
  geometryOf,
  hostOffset,
  l1EntriesFor,
  refcountTableIndexOf,
} from './geometry.ts';
import { type Header, readHeader } from './header.ts';
import { encodeHeader } from './header-encode.ts';
import { Image } from './image.ts';
import { preallocate } from './preallocate.ts';

const DEFAULT_CLUSTER_SIZE = 65_536;
const DEFAULT_REFCOUNT_BITS = 16;
/** QEMU leaves the feature name table out where it would fill the first cluster. */
const SMALLEST_CLUSTER_WITH_NAMES = 8192;
/** A subcluster, a 32nd of it, has a sector at least. */
const SMALLEST_CLUSTER_WITH_SUBCLUSTERS = 16_384;

/** What a new image is to be. The defaults are QEMU's. */
export interface CreateQcow2Options {
  /** Bytes; rounded up to whole sectors of 512 bytes. */
  readonly size: number;
  readonly version?: 2 | 3;
  /** Bytes, a power of two of 512 to 2 MiB; 65,536 if not given. */
  readonly clusterSize?: number;
  /** A power of two of 1 to 64; 16 if not given. */
  readonly refcountBits?: number;
  readonly lazyRefcounts?: boolean;
  /** Recorded as given. */
  readonly backing?: BackingReference;
  /** How the space of the disk is had; over a backing file only with extended L2 entries. */
  readonly preallocation?: Preallocation;
  /** 16-byte L2 entries and 32 subclusters in a cluster, which then has 16 KiB at least. */
  readonly extendedL2?: boolean;
  /** Keeps the guest's data in a file of its own. */
  readonly dataFile?: NewDataFile;
  /** How clusters are compressed that are written so: `zlib`, which is what stands if not given, or `zstd`. */
  readonly compressionType?: string;
  /** Undefined: not encrypted. */
  readonly encryption?: NewEncryption | undefined;
}

/** The external data file of a new image. */
export interface NewDataFile {
  /** Recorded as given. */
  readonly name: string;
  /** What it held is lost; afterwards it is as long as the disk, and zeros. It stays the caller's. */
  readonly file: HostFile;
  /** By itself it is to be a raw image of the disk, always. */
  readonly raw?: boolean;
}

/**
 * Makes `file` an empty image; what it held is lost. The image is on disk when the promise resolves. The
 * header is written last: a file that was not finished is not an image.
 *
 * @throws {DiskError} invalid, limit, no-space, not-supported, and what the file throws
 */
export async function createQcow2(file: HostFile, options: CreateQcow2Options): Promise<void> {
  const { encryption, preallocation = 'off' } = options;
  const plan = encryption && (await planEncryption(encryption));
  const header = newHeader(options);
  const bytes = encodeHeader(header);
  const geometry = geometryOf(header);
  const layout = layoutOf(geometry, header.l1Entries);
  const { dataFile } = options;
  if (dataFile !== undefined) {
    await clear(dataFile.file, header.size);
    await dataFile.file.flush();
  }
  await clear(file, layout.end);
  // Zeros that take space, as QEMU writes them: what the image needs at once must not run out later.
  await file.zero(0, geometry.clusterSize, { allocate: true });
  if (header.l1Entries > 0) await file.zero(layout.l1At, header.l1Entries * 8, { allocate: true });

  const table = Buffer.alloc(layout.tableClusters * geometry.clusterSize);
  const block = Buffer.alloc(geometry.clusterSize);
  for (const [index, at] of layout.blocksAt.entries()) {
    setEntry(tableOf(table), index, encodeHigh(at, false), encodeLow(at));
    const first = index * geometry.refcountBlockEntries;
    block.fill(0);
    for (let i = 0; i < geometry.refcountBlockEntries && first + i < layout.clusters; i++)
      writeRefcount(tableOf(block), i, geometry.refcountOrder, 1);
    await file.write(block, at);
  }
  await file.write(table, layout.tableAt);
  await file.flush();
  await file.write(bytes, 0);
  await file.flush();
  if (plan !== undefined && encryption !== undefined) await encryptNew(file, plan, encryption.passphrase);
  // What is written to a raw data file without a table entry that says so would not be on the disk.
  const how = preallocation === 'off' && dataFile?.raw === true ? 'metadata' : preallocation;
  if (how !== 'off') await preallocateNew(file, how, dataFile?.file);
}

async function preallocateNew(
  file: HostFile,
  how: Exclude<Preallocation, 'off'>,
  dataFile: HostFile | undefined,
): Promise<void> {
  const image = new Image(file, await readHeader(file), {}, dataFile);
  if (dataFile !== undefined && how !== 'metadata') await spendSpace(dataFile, 0, image.size, how);
  await image.holdAll(() => preallocate(image, 0, image.size, { how, hides: false }));
  await image.close();
}

/** Makes the first `length` bytes zeros, and the file that long if it can be. */
async function clear(file: HostFile, length: number): Promise<void> {
  try {
    await file.truncate(0);
    await file.truncate(length);
  } catch (error) {
    // A block device keeps its size.
    if (!isDiskError(error, 'not-supported')) throw error;
    if (file.size < length) {
      const message = `The device has ${file.size} bytes, and an empty image needs ${length}`;
      throw new DiskError('no-space', message, { cause: error });
    }
    await file.zero(0, length);
  }
}

/** The version that a `compat` option names. @throws {DiskError} invalid */
export function versionOfCompat(compat: string): 2 | 3 {
  if (compat === '0.10' || compat === 'v2') return 2;
  if (compat === '1.1' || compat === 'v3') return 3;
  throw new DiskError('invalid', `Parameter 'version' does not accept value '${compat}'`);
}

/** Where everything of an empty image lies. */
interface Layout {
  readonly tableAt: number;
  readonly tableClusters: number;
  readonly l1At: number;
  /** The refcount blocks, in the order of the clusters that they describe. */
  readonly blocksAt: readonly number[];
  /** Clusters in use. */
  readonly clusters: number;
  /** The length of the file: QEMU ends it with the last L1 entry if the L1 table comes last. */
  readonly end: number;
}

function layoutOf(geometry: Geometry, l1Entries: number): Layout {
  const { clusterSize } = geometry;
  for (let tableClusters = 1; ; tableClusters++) {
    const l1Index = 2 + tableClusters;
    const afterL1 = l1Index + clustersFor(geometry, l1Entries * 8);
    const blocks = placeBlocks(geometry, l1Index - 1, afterL1);
    if (clustersFor(geometry, blocks.length * 8) > tableClusters) continue;
    const clusters = afterL1 + blocks.length - 1;
    return {
      tableAt: clusterSize,
      tableClusters,
      l1At: l1Index * clusterSize,
      blocksAt: blocks.map((index) => index * clusterSize),
      clusters,
      end: blocks.length === 1 ? l1Index * clusterSize + l1Entries * 8 : clusters * clusterSize,
    };
  }
}

/**
 * Cluster indexes of the refcount blocks: the first at `first`, the others from `next` on. QEMU places a
 * block when it is first needed, and then at once the one that describes where it lies.
 */
function placeBlocks(geometry: Geometry, first: number, next: number): readonly number[] {
  const blocks: number[] = [first];
  let free = next;
  const place = (index: number): void => {
    if (blocks[index] !== undefined) return;
    const at = free++;
    blocks[index] = at;
    place(refcountTableIndexOf(geometry, at));
  };
  const last = refcountTableIndexOf(geometry, next - 1);
  for (let index = 1; index <= last; index++) place(index);
  return blocks;
}

function newHeader(options: CreateQcow2Options): Header {
  const { backing, version = 3, lazyRefcounts = false } = options;
  const { clusterSize = DEFAULT_CLUSTER_SIZE, refcountBits = DEFAULT_REFCOUNT_BITS } = options;
  const clusterBits = Math.log2(clusterSize);
  const refcountOrder = Math.log2(refcountBits);
  const invalid = (message: string): DiskError => new DiskError('invalid', message);
  if (!Number.isInteger(clusterBits) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    throw invalid('Cluster size must be a power of two between 512 and 2048k');
  if (backing !== undefined && (options.preallocation ?? 'off') !== 'off' && options.extendedL2 !== true)
    throw invalid('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  if (version < 3 && lazyRefcounts)
    throw invalid(
      'Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > 6)
    throw invalid('Refcount width must be a power of two and may not exceed 64 bits');
  if (version < 3 && refcountBits !== 16)
    throw invalid(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
    );

  const compressionType = compressionTypeOf(options.compressionType ?? 'zlib', version);
  const compressionBit = compressionType === Compression.zlib ? 0n : Incompatible.compression;
  const incompatible =
    compressionBit | extendedL2Bit(options, version, clusterSize) | dataFileBit(options, version);
  const fields = { version, clusterBits, refcountOrder, incompatible } as const;
  const geometry = geometryOf(fields);
  const size = Math.ceil(options.size / 512) * 512;
  const l1Entries = l1EntriesFor(geometry, size);
  if (l1Entries * 8 > MAX_L1_BYTES || !Number.isSafeInteger(size)) {
    const message = "The image size is too large for file format 'qcow2' (try using a larger cluster size)";
    throw new DiskError('limit', message);
  }
  const { tableAt, tableClusters, l1At } = layoutOf(geometry, l1Entries);
  const withNames = version === 3 && clusterSize >= SMALLEST_CLUSTER_WITH_NAMES;
  return {
    ...fields,
    size,
    cryptMethod: Encryption.none,
    l1Entries,
    l1At: hostOffset(l1Entries === 0 ? 0 : l1At),
    refcountTableAt: hostOffset(tableAt),
    refcountTableClusters: tableClusters,
    snapshotCount: 0,
    snapshotsAt: hostOffset(0),
    compatible: lazyRefcounts ? Compatible.lazyRefcounts : 0n,
    autoclear: options.dataFile?.raw === true ? Autoclear.rawData : 0n,
    headerLength: version === 2 ? 72 : 112,
    compressionType,
    unknownFields: new Uint8Array(0),
    extensions: {
      ...noExtensions,
      backingFormat: backing?.format,
      dataFile: options.dataFile && Buffer.from(options.dataFile.name, 'utf8'),
      featureNames: withNames ? qemuFeatureNames() : undefined,
    },
    backingName: backing === undefined ? undefined : nameBytes(backing),
  };
}

function extendedL2Bit({ extendedL2 }: CreateQcow2Options, version: 2 | 3, clusterSize: number): bigint {
  if (extendedL2 !== true) return 0n;
  const refused =
    version < 3
      ? 'compatibility level 1.1 and above (use version=v3 or greater)'
      : clusterSize < SMALLEST_CLUSTER_WITH_SUBCLUSTERS && 'cluster sizes of at least 16384 bytes';
  if (refused) throw new DiskError('invalid', `Extended L2 entries are only supported with ${refused}`);
  return Incompatible.extendedL2;
}

function dataFileBit({ dataFile, backing }: CreateQcow2Options, version: 2 | 3): bigint {
  if (dataFile === undefined) return 0n;
  if (version < 3)
    throw new DiskError(
      'invalid',
      'External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  if (backing !== undefined && dataFile.raw === true)
    throw new DiskError('invalid', 'Backing file and data-file-raw cannot be used at the same time');
  if (dataFile.name === '' || dataFile.name.includes('\0'))
    throw new DiskError('invalid', 'The name of the data file cannot be recorded');
  return Incompatible.dataFile;
}

function compressionTypeOf(name: string, version: 2 | 3): number {
  const type = Object.hasOwn(Compression, name) ? Compression[name as keyof typeof Compression] : undefined;
  if (type === undefined)
    throw new DiskError('invalid', `Parameter 'compression-type' does not accept value '${name}'`);
  if (type !== Compression.zlib && version < 3)
    throw new DiskError(
      'invalid',
      'Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  return type;
}

/** The name of a backing file as the header keeps it. @throws {DiskError} invalid */
export function nameBytes(backing: BackingReference): Uint8Array {
  const name = Buffer.from(backing.name, 'utf8');
  const format = backing.format ?? '';
  if (name.length === 0) throw new DiskError('invalid', 'Expected backing file name, got empty string');
  if (name.includes(0) || format.includes('\0') || Buffer.byteLength(format) > 15)
    throw new DiskError('invalid', 'The name or format of the backing file cannot be recorded');
  if (name.length > MAX_BACKING_NAME)
    throw new DiskError('invalid', `The name of the backing file is longer than ${MAX_BACKING_NAME} bytes`);
  return name;
}
