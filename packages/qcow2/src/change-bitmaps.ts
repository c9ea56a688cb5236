/**
 * Changes to the list of an image's bitmaps that belong together: all of them happen, or none.
 *
 * The image must not be open as a layer. A new directory is written beside the old one, and one write inside the
 * header's first sector switches to it. No bitmap's bits are touched and nothing is marked as in use, so that whatever
 * interrupts it leaves no bitmap unusable, as opening the image for writing would.
 *
 * Spec: qcow2.txt, "Bitmap directory" and "Bitmaps extension"
 */
import {
  type BitmapChange,
  bitmapExists,
  DirtyBitmap,
  inconsistentBitmap,
  judgeBitmapName,
  noSuchBitmap,
} from '@strata/bitmap';
import { DiskError, type HostFile, withContext } from '@strata/block';
import { bitmapClusters } from './bitmap-content.ts';
import { freeBits, newTable } from './bitmap-storing.ts';
import { type BitmapEntry, encodeDirectory, listBitmaps, readExtra } from './bitmaps.ts';
import { repairDirty } from './dirty-bit.ts';
import { hasFeature, unsupportedFor } from './features.ts';
import { Autoclear, MAX_BITMAP_BYTES, MAX_BITMAPS } from './format.ts';
import { type HostOffset, hostOffset } from './geometry.ts';
import { type Header, readHeader } from './header.ts';
import { featuresPatch } from './header-encode.ts';
import { rewriteHeader } from './header-rewrite.ts';
import { Image } from './image.ts';
import { judgeDirectory } from './image-bitmaps.ts';

type Entry = Omit<BitmapEntry, 'entryAt'> & { readonly extra: Uint8Array };

/**
 * Makes all of `changes`, in their order, or none of them.
 *
 * @throws {DiskError} not-found, exists, invalid for an inconsistent bitmap, limit, not-supported for version 2,
 *   no-space, corrupt
 */
export async function changeBitmaps(file: HostFile, changes: readonly BitmapChange[]): Promise<void> {
  const image = await openImage(file).catch((error: unknown) => {
    throw withContext(error, { op: 'open' });
  });
  try {
    await change(image, changes);
  } finally {
    await image.close();
  }
}

async function openImage(file: HostFile): Promise<Image> {
  let header = await readHeader(file);
  const refusal = unsupportedFor(header, 'write');
  if (refusal !== undefined) throw refusal;
  if (hasFeature(header, 'dirty')) header = await repairDirty(file);
  const kept = header.autoclear & (Autoclear.bitmaps | Autoclear.rawData);
  if (kept !== header.autoclear) {
    header = { ...header, autoclear: kept };
    const { offset, bytes } = featuresPatch(header);
    await file.write(bytes, offset);
    await file.flush();
  }
  // Of guest data nothing is read or written: where it is kept does not matter.
  return new Image(file, header, {});
}

async function change(image: Image, changes: readonly BitmapChange[]): Promise<void> {
  const { file, header, barrier, allocator, quarantine, geometry, structures } = image;
  const parts = { file, geometry, allocator, quarantine, structures };
  const old: Entry[] = [];
  for (const entry of await listBitmaps(file, header))
    old.push({ ...entry, extra: await readExtra(file, entry) });
  let entries: readonly Entry[] = old;
  for (const each of changes) entries = changed(entries, each, image);
  judgeDirectory(entries);
  const placed: Entry[] = [];
  for (const entry of entries) {
    if (entry.tableAt !== nowhere) placed.push(entry);
    else placed.push({ ...entry, ...(await newTable(parts, entry.tableEntries)) });
  }
  const directory = await writeDirectory(image, placed);
  await barrier.run();
  await barrier.exclusively(async () => {
    const now = await readHeader(file);
    const bitmaps = directory && { count: placed.length, ...directory };
    const autoclear = bitmaps ? now.autoclear | Autoclear.bitmaps : now.autoclear & ~Autoclear.bitmaps;
    await rewriteHeader(file, { ...now, extensions: { ...now.extensions, bitmaps }, autoclear });
  });
  const { bitmaps: before } = header.extensions;
  if (before !== undefined) {
    const clusters = Math.ceil(before.directorySize / geometry.clusterSize);
    quarantine.add(before.directoryAt / geometry.clusterSize, clusters);
  }
  for (const entry of old) {
    if (!placed.some(({ tableAt }) => tableAt === entry.tableAt))
      await freeBits(parts, { ...entry, entryAt: nowhere });
  }
}

/** Of a bitmap that has no table yet. */
const nowhere = hostOffset(0);

function changed(entries: readonly Entry[], each: BitmapChange, image: Image): readonly Entry[] {
  const at = entries.findIndex(({ name }) => name === each.name);
  const found = entries[at];
  if (each.kind === 'add') {
    if (found !== undefined) throw bitmapExists(each.name);
    return [...entries, added(entries.length, each, image)];
  }
  if (found === undefined) throw noSuchBitmap(each.name);
  if (each.kind === 'remove') return entries.filter((entry) => entry !== found);
  if (found.inUse) throw inconsistentBitmap(each.name);
  if (each.kind === 'set-enabled') return entries.with(at, { ...found, auto: each.enabled });
  if (entries.some(({ name }) => name === each.to)) throw bitmapExists(each.to);
  judgeBitmapName(each.to);
  return entries.with(at, { ...found, name: each.to });
}

function added(
  count: number,
  { name, granularity, enabled }: Extract<BitmapChange, { kind: 'add' }>,
  { geometry, size }: Image,
): Entry {
  judgeBitmapName(name);
  // It is made for what it judges.
  void new DirtyBitmap(size, granularity);
  if (geometry.version < 3)
    throw new DiskError('not-supported', 'Cannot store dirty bitmaps in qcow2 v2 files');
  if (count === MAX_BITMAPS)
    throw new DiskError('limit', 'Maximum number of persistent bitmaps is already reached');
  const tableEntries = bitmapClusters(geometry, size, granularity);
  if (tableEntries === 0) throw new DiskError('invalid', 'A disk of no bytes keeps no bitmap');
  if (tableEntries * geometry.clusterSize > MAX_BITMAP_BYTES) {
    throw new DiskError('limit', 'Too much space will be occupied by the bitmap. Use larger granularity');
  }
  const state = { inUse: false, auto: enabled, extraLength: 0, extraCompatible: false };
  return { name, granularity, ...state, extra: new Uint8Array(0), tableAt: nowhere, tableEntries };
}

/** Where the directory is now; undefined if there are no bitmaps any more. */
async function writeDirectory(
  { file, geometry, allocator }: Image,
  entries: readonly Entry[],
): Promise<Omit<NonNullable<Header['extensions']['bitmaps']>, 'count'> | undefined> {
  if (entries.length === 0) return undefined;
  const bytes = encodeDirectory(entries);
  const run = await allocator.allocateInOneRun(Math.ceil(bytes.length / geometry.clusterSize));
  const at: HostOffset = run.at;
  await file.write(bytes, at);
  return { directoryAt: at, directorySize: bytes.length };
}
