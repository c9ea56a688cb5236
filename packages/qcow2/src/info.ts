/**
 * What there is to say of an image without reading its data: what `img info` prints.
 *
 * It reads the header, the snapshot table and the bitmap directory of one file, and opens no other: names
 * inside the image are handed on as text. It works on images that this version will not open.
 */
import type { BackingReference, HostSource } from '@strata/block';
import type { LuksInfo } from '@strata/luks';
import { type BitmapEntry, listBitmaps } from './bitmaps.ts';
import { encryptionFacts, methodOf } from './encryption.ts';
import { textOf } from './extensions.ts';
import { hasFeature } from './features.ts';
import { Autoclear, Compatible, Compression } from './format.ts';
import { backingOf, type Header, readHeader } from './header.ts';
import { listSnapshots, type Snapshot } from './snapshots.ts';

/** The facts of one image. */
export interface Qcow2Info {
  readonly version: 2 | 3;
  /** Bytes the guest sees. */
  readonly size: number;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly compressionType: 'zlib' | 'zstd';
  /** Always false in version 2, which knows none of these. */
  readonly lazyRefcounts: boolean;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly extendedL2: boolean;
  readonly backing: BackingReference | undefined;
  /** Undefined if none is named; `raw` is undefined if one is named and not used. */
  readonly dataFile: { readonly name: string | undefined; readonly raw: boolean | undefined } | undefined;
  readonly encryption: 'aes' | 'luks' | undefined;
  /** What the LUKS header of an image that is encrypted with it tells without a passphrase. */
  readonly luks: LuksInfo | undefined;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly BitmapEntry[];
  /** True: there are bitmaps, but a program that did not maintain them has written the image since. */
  readonly staleBitmaps: boolean;
}

/**
 * The facts of the image in `file`.
 *
 * @throws {DiskError} corrupt, limit, not-supported
 */
export async function readInfo(file: HostSource): Promise<Qcow2Info> {
  const header = await readHeader(file);
  return {
    version: header.version,
    size: header.size,
    clusterSize: 2 ** header.clusterBits,
    refcountBits: 2 ** header.refcountOrder,
    compressionType: header.compressionType === Compression.zstd ? 'zstd' : 'zlib',
    lazyRefcounts: (header.compatible & Compatible.lazyRefcounts) !== 0n,
    dirty: hasFeature(header, 'dirty'),
    corrupt: hasFeature(header, 'corrupt'),
    extendedL2: hasFeature(header, 'extendedL2'),
    backing: backingOf(header),
    dataFile: dataFileOf(header),
    encryption: methodOf(header),
    luks: await encryptionFacts(file, header),
    snapshots: await listSnapshots(file, header),
    bitmaps: await listBitmaps(file, header),
    staleBitmaps: header.extensions.staleBitmaps,
  };
}

/** The name of the external data file as the image records it; undefined if its data lies in the image itself. */
export async function dataFileName(file: HostSource): Promise<string | undefined> {
  const header = await readHeader(file, { forCheck: true });
  return hasFeature(header, 'dataFile') ? dataFileOf(header)?.name : undefined;
}

function dataFileOf(header: Header): Qcow2Info['dataFile'] {
  const { dataFile } = header.extensions;
  const isUsed = hasFeature(header, 'dataFile');
  if (!isUsed && dataFile === undefined) return undefined;
  return {
    name: dataFile === undefined ? undefined : textOf(dataFile),
    raw: isUsed ? (header.autoclear & Autoclear.rawData) !== 0n : undefined,
  };
}
