/**
 * Changing what an image was created with: its version, its refcount width, its features, its size.
 *
 * Everything that can be refused is refused before anything changes. Then come, in this order, the upgrade, which
 * other changes may need, the refcounts, the features, the size, and the downgrade, which needs other changes to
 * have been made. Each step leaves a sound image, so a power cut leaves the result of some of them.
 *
 * QEMU: the order and the sentences are QEMU's. It refuses some things only after other steps have been made.
 *
 * Spec: qcow2.txt, "Header" and "Header extensions".
 */
import type { BlockSource, HostFile, Layer } from '@strata/block';
import { judgeAmend } from './amend-refusals.ts';
import { expandZeroClusters } from './downgrade.ts';
import { noExtensions, qemuFeatureNames } from './extensions.ts';
import { Autoclear, Compatible, Compression, KNOWN_AUTOCLEAR, VERSION_2_REFCOUNT_ORDER } from './format.ts';
import { type Header, KNOWN_LENGTH, readHeader, V2_LENGTH } from './header.ts';
import { rewriteHeader } from './header-rewrite.ts';
import { Image } from './image.ts';
import { type AmendProgress, changeRefcountWidth } from './refcount-width.ts';
import { completeSnapshots } from './snapshot-changes.ts';

/** What is to change; what is undefined stays. */
export interface AmendChanges {
  readonly version?: 2 | 3 | undefined;
  readonly refcountBits?: number | undefined;
  readonly lazyRefcounts?: boolean | undefined;
  /** False only: an image whose data file is to be a raw disk is created as that. */
  readonly dataFileRaw?: boolean | undefined;
  /** Another name of the external data file; empty: none is recorded. */
  readonly dataFile?: string | undefined;
  /** Bytes; 0 changes nothing. */
  readonly size?: number | undefined;
  /** As it is recorded already: another backing file is `rebase`'s business. */
  readonly backingName?: string | undefined;
  readonly backingFormat?: string | undefined;
}

/** An image that is open for changes, and idle. */
export interface AmendTarget extends AsyncDisposable {
  readonly host: HostFile;
  readonly layer: Layer;
  /** What lies under the layer. */
  below(size: number): BlockSource;
}

/**
 * Makes the changes. `open` opens the image, several times one after another; what it opened is closed each time.
 *
 * @throws {DiskError} invalid, not-supported, limit, corrupt, no-space, io
 */
export async function amendQcow2(
  open: () => Promise<AmendTarget>,
  changes: AmendChanges,
  progress: AmendProgress = () => undefined,
): Promise<void> {
  const wanted = await withFile(open, (file) => judgeAmend(file, changes));
  const { version, refcountBits, size } = wanted;
  const shown = inSteps(progress, Number(version !== undefined) + Number(refcountBits !== undefined));
  await withFile(open, async (file) => {
    if (version === 3) await upgrade(file, shown());
    if (refcountBits !== undefined) {
      const report = shown();
      await withImage(file, (image) => changeRefcountWidth(image, refcountBits, report));
    }
    await changeFeatures(file, wanted);
  });
  if (size !== undefined) {
    await using target = await open();
    await target.layer.resize(size, target.below(size));
  }
  if (version === 2) await withFile(open, (file) => downgrade(file, shown()));
}

async function withFile<T>(
  open: () => Promise<AmendTarget>,
  work: (file: HostFile) => Promise<T>,
): Promise<T> {
  await using target = await open();
  return await work(target.host);
}

async function withImage(file: HostFile, work: (image: Image) => Promise<void>): Promise<void> {
  const image = new Image(file, await readHeader(file), {});
  try {
    await work(image);
  } finally {
    await image.close();
  }
}

/** One report of progress for steps whose lengths become known one after another, each of which calls it anew. */
function inSteps(progress: AmendProgress, steps: number): () => AmendProgress {
  let finished = -1;
  let before = 0;
  let length = 0;
  return () => {
    finished++;
    before += length;
    return (done, total) => {
      length = total;
      const known = before + total;
      // The steps to come are taken to be as long as those so far.
      const expected = (known * (steps - finished - 1)) / (finished + 1);
      progress(before + done, known + expected);
    };
  };
}

async function upgrade(file: HostFile, progress: AmendProgress): Promise<void> {
  progress(0, 2);
  // Version 3 demands more of a snapshot than version 2, which does not mind it.
  if ((await readHeader(file)).snapshotCount > 0) await completeSnapshots(file);
  progress(1, 2);
  const header = await readHeader(file);
  // QEMU leaves the names out where they would fill the first cluster.
  const withNames = 2 ** header.clusterBits > 4096;
  await rewriteHeader(file, {
    ...header,
    version: 3,
    headerLength: KNOWN_LENGTH,
    extensions: { ...header.extensions, featureNames: withNames ? qemuFeatureNames() : undefined },
  });
  progress(2, 2);
}

/** Switches feature bits, and the name of the data file. */
async function changeFeatures(file: HostFile, changes: AmendChanges): Promise<void> {
  const { lazyRefcounts, dataFile, dataFileRaw } = changes;
  if (lazyRefcounts === undefined && dataFile === undefined && dataFileRaw === undefined) return;
  const header = await readHeader(file);
  let { compatible, autoclear, extensions } = header;
  if (lazyRefcounts !== undefined)
    compatible = lazyRefcounts
      ? compatible | Compatible.lazyRefcounts
      : compatible & ~Compatible.lazyRefcounts;
  if (dataFileRaw === false) autoclear &= ~Autoclear.rawData;
  if (dataFile !== undefined)
    extensions = { ...extensions, dataFile: dataFile === '' ? undefined : Buffer.from(dataFile, 'utf8') };
  await rewriteHeader(file, { ...header, compatible, autoclear: autoclear & KNOWN_AUTOCLEAR, extensions });
}

async function downgrade(file: HostFile, progress: AmendProgress): Promise<void> {
  await withImage(file, async (image) => {
    for (const { name } of await image.bitmaps.list()) await image.bitmaps.remove(name);
    await expandZeroClusters(image, progress);
  });
  const header = await readHeader(file);
  const { backingFormat, encryption, unknown } = header.extensions;
  const next: Header = {
    ...header,
    version: 2,
    refcountOrder: VERSION_2_REFCOUNT_ORDER,
    incompatible: 0n,
    compatible: 0n,
    autoclear: 0n,
    headerLength: V2_LENGTH,
    compressionType: Compression.zlib,
    unknownFields: new Uint8Array(0),
    extensions: { ...noExtensions, backingFormat, encryption, unknown },
  };
  await rewriteHeader(file, next);
}
