/**
 * What an image may not be amended to, told before anything changes.
 *
 * Spec: qcow2.txt, "Header".
 */
import { DiskError, type HostFile } from '@strata/block';
import type { AmendChanges } from './amend.ts';
import { hasClusters } from './downgrade.ts';
import { ClusterKind } from './entries.ts';
import { hasFeature } from './features.ts';
import { Autoclear, Compatible, Compression, Incompatible } from './format.ts';
import { backingOf, type Header, readHeader } from './header.ts';
import { Image } from './image.ts';
import { judgeRefcountWidth } from './refcount-width.ts';
import { checkSize } from './resize.ts';
import { readSnapshotTable } from './snapshots.ts';

const invalid = (message: string): DiskError => new DiskError('invalid', message);
const unsupported = (message: string): DiskError => new DiskError('not-supported', message);

/**
 * The changes without those that change nothing.
 *
 * @throws {DiskError} invalid, not-supported, limit, corrupt
 */
export async function judgeAmend(file: HostFile, changes: AmendChanges): Promise<AmendChanges> {
  const header = await readHeader(file);
  const bitsNow = 2 ** header.refcountOrder;
  const { version = header.version, refcountBits = bitsNow } = changes;
  const isLazy = (header.compatible & Compatible.lazyRefcounts) !== 0n;
  const { lazyRefcounts = isLazy } = changes;
  judgeBits(refcountBits, version, bitsNow);
  judgeDataFile(header, changes);
  const image = new Image(file, header, {});
  if (refcountBits < bitsNow) await judgeRefcountWidth(image, refcountBits);
  judgeBacking(header, changes);
  if (lazyRefcounts && !isLazy && version < 3)
    throw invalid(
      'Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)',
    );
  const size = changes.size === 0 || changes.size === header.size ? undefined : changes.size;
  if (size !== undefined) checkSize(image, size, Math.max(version, header.version) as 2 | 3);
  if (version < header.version) await judgeDowngrade(image, refcountBits, size ?? header.size);
  return {
    version: version === header.version ? undefined : version,
    refcountBits: refcountBits === bitsNow ? undefined : refcountBits,
    lazyRefcounts: lazyRefcounts === isLazy ? undefined : lazyRefcounts,
    dataFileRaw: (header.autoclear & Autoclear.rawData) === 0n ? undefined : changes.dataFileRaw,
    dataFile: changes.dataFile,
    size,
  };
}

function judgeBits(bits: number, version: 2 | 3, now: number): void {
  if (!Number.isInteger(Math.log2(bits)) || bits < 1 || bits > 64)
    throw invalid('Refcount width must be a power of two and may not exceed 64 bits');
  if (bits !== now && version < 3 && bits !== 16)
    throw invalid(
      'Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
    );
}

function judgeDataFile(header: Header, { dataFile, dataFileRaw }: AmendChanges): void {
  if (dataFile !== undefined && !hasFeature(header, 'dataFile'))
    throw invalid('data-file can only be set for images that use an external data file');
  if (dataFileRaw === true && (header.autoclear & Autoclear.rawData) === 0n)
    throw invalid('data-file-raw cannot be set on existing images');
}

function judgeBacking(header: Header, { backingName, backingFormat }: AmendChanges): void {
  if (backingName === undefined && backingFormat === undefined) return;
  const recorded = backingOf(header);
  if (backingName !== recorded?.name || backingFormat !== recorded?.format)
    throw new DiskError('invalid', 'Cannot amend the backing file', { op: 'rebase' });
}

/** @throws {DiskError} not-supported, and what reading the tables throws */
async function judgeDowngrade(image: Image, refcountBits: number, size: number): Promise<void> {
  const { header, file } = image;
  if (refcountBits !== 16) throw unsupported('compat=0.10 requires refcount_bits=16');
  if (hasFeature(header, 'dataFile')) throw unsupported('Cannot downgrade an image with a data file');
  const { entries, problem } = await readSnapshotTable(file, header.snapshotsAt, header.snapshotCount);
  if (problem !== undefined) throw new DiskError('limit', problem.message);
  const isUnsafe = entries.some(
    ({ vmStateSize, diskSize }) =>
      vmStateSize > 0xffff_ffffn || (diskSize ?? BigInt(header.size)) !== BigInt(size),
  );
  if (isUnsafe) throw unsupported('Internal snapshots prevent downgrade of image');
  const rest = header.incompatible & ~Incompatible.compression;
  if (rest !== 0n)
    throw unsupported(`Cannot downgrade an image with incompatible features 0x${rest.toString(16)} set`);
  if (header.compressionType !== Compression.zlib && (await hasClusters(image, ClusterKind.compressed)))
    throw unsupported(
      'Cannot downgrade an image with zstd compression type and existing compressed clusters',
    );
}
