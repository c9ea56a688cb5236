/**
 * Creating, applying and deleting internal snapshots.
 *
 * Each is one change of the whole image (renewal.ts): the new L1 table, L2 tables whose flags change, the
 * snapshot table and the refcounts that follow are written beside those in use, and one write to the header
 * switches to them. A power cut leaves the image before or after, and no leak.
 *
 * A snapshot's L1 table leads to the same L2 tables as the active one did. What both use has two uses, and
 * its `exclusive` flag is clear, so that the next write to it goes elsewhere (links.ts).
 *
 * Spec: qcow2.txt, "Snapshots".
 */
import { DiskError, type HostFile, type SnapshotChoice, withContext } from '@strata/block';
import { repairDirty } from './dirty-bit.ts';
import { hasFeature, unsupportedFor } from './features.ts';
import { MAX_L1_BYTES, MAX_SNAPSHOT_TABLE_BYTES, MAX_SNAPSHOTS } from './format.ts';
import { clustersFor, type HostOffset, hostOffset, l1EntriesFor } from './geometry.ts';
import { type Header, readHeader } from './header.ts';
import { structuresPatch } from './header-encode.ts';
import { Image } from './image.ts';
import { forEachUse, type L1Tree, mendFlags, readTree } from './l1-tree.ts';
import { type CountsInUse, Renewal } from './renewal.ts';
import {
  DEMANDED_EXTRA,
  type EncodedTable,
  encodeEntry,
  type NewSnapshot,
  nextId,
  readEncodedTable,
} from './snapshot-table.ts';
import { findSnapshot, judgeL1, type SnapshotEntry } from './snapshots.ts';
import { NO_TABLE } from './tables.ts';

/**
 * Adds a snapshot of the disk as it is. Here and below: what the image cannot be opened for has `context.op` `open`.
 *
 * @throws {DiskError} not-supported, limit, invalid, corrupt, no-space
 */
export function createSnapshot(file: HostFile, snapshot: NewSnapshot): Promise<void> {
  return withImage(file, (image) => create(image, snapshot));
}

/**
 * Makes the disk, and its size, what a snapshot keeps.
 *
 * @throws {DiskError} not-found, not-supported, busy if there are bitmaps, corrupt, limit, invalid, no-space
 */
export function applySnapshot(file: HostFile, choice: SnapshotChoice): Promise<void> {
  return withImage(file, (image) => apply(image, choice));
}

/** Removes a snapshot. @throws {DiskError} not-found, not-supported, corrupt, limit, no-space */
export function deleteSnapshot(file: HostFile, choice: SnapshotChoice): Promise<void> {
  return withImage(file, (image) => remove(image, choice));
}

/** Fills up entries that lack what version 3 demands, in an image of version 2 as well. @throws {DiskError} limit, no-space */
export function completeSnapshots(file: HostFile): Promise<void> {
  return withImage(file, (image) =>
    changing(image, async (change) => {
      const { entries, slices } = await readEncodedTable(file, { ...image.header, version: 3 });
      if (entries.every(({ extraSize }) => extraSize >= DEMANDED_EXTRA)) return;
      await change.finish(await change.writeSnapshots(slices));
    }),
  );
}

async function withImage(file: HostFile, change: (image: Image) => Promise<void>): Promise<void> {
  const image = await openImage(file).catch((error: unknown) => {
    throw withContext(error, { op: 'open' });
  });
  if (image === undefined) throw noSnapshots();
  try {
    await change(image);
  } finally {
    await image.close();
  }
}

/** Undefined: it is an image that has no snapshots. */
async function openImage(file: HostFile): Promise<Image | undefined> {
  const header = await readHeader(file);
  if (hasFeature(header, 'dataFile')) return undefined;
  const refusal = unsupportedFor(header, 'write');
  if (refusal !== undefined) throw refusal;
  return new Image(file, hasFeature(header, 'dirty') ? await repairDirty(file) : header, {});
}

/** As `createSnapshot`, of an image that is open. */
export function create(image: Image, snapshot: NewSnapshot): Promise<void> {
  return changing(image, async (change) => {
    const { renewal, table } = change;
    const { geometry } = image;
    if (table.entries.length >= MAX_SNAPSHOTS) throw new DiskError('limit', 'Snapshot table too large');
    const l1 = await activeTree(image);
    await forEachUse(image, l1, (cluster, times) => renewal.add(cluster, times));
    await renewal.judge();
    await mendFlags(image, l1, renewal, 1, ({ at, bytes }) => image.file.write(bytes, at));
    const clusters = clustersFor(geometry, l1.entries * 8);
    const copyAt = clusters === 0 ? hostOffset(0) : await change.writeTable(bytesOf(l1));
    const entry = encodeEntry({
      ...snapshot,
      id: nextId(table.entries),
      diskSize: image.size,
      l1At: copyAt,
      l1Entries: l1.entries,
    });
    const snapshots = await change.writeSnapshots([...table.slices, entry]);
    await change.finish({ ...(await change.moveL1(l1)), ...snapshots });
  });
}

/** As `applySnapshot`, of an image that is open. */
export function apply(image: Image, choice: SnapshotChoice): Promise<void> {
  return changing(image, async (change) => {
    const { renewal, table } = change;
    const { header, geometry } = image;
    const snapshot = found(table, choice);
    const size = judgeSize(image, snapshot);
    const at = judgeL1(header, snapshot);
    const entries = Math.max(snapshot.l1Entries, l1EntriesFor(geometry, size));
    if (entries * 8 > MAX_L1_BYTES) throw new DiskError('limit', 'Snapshot L1 table too large');
    const l1 = await readTree(image, at, snapshot.l1Entries, entries);
    const old = await activeTree(image);
    await forEachUse(image, l1, (cluster, times) => renewal.add(cluster, times));
    await forEachUse(image, old, (cluster, times) => renewal.remove(cluster, times));
    await renewal.judge();
    await mendFlags(image, l1, renewal, 0, ({ at: place, bytes }) => image.file.write(bytes, place));
    await change.finish({ size, ...(await change.moveL1(l1)) });
  });
}

/** As `deleteSnapshot`, of an image that is open. */
export function remove(image: Image, choice: SnapshotChoice): Promise<void> {
  return changing(image, async (change) => {
    const { renewal, table } = change;
    const { header, geometry } = image;
    const snapshot = found(table, choice);
    const at = judgeL1(header, snapshot);
    const gone = await readTree(image, at, snapshot.l1Entries);
    await forEachUse(image, gone, (cluster, times) => renewal.remove(cluster, times));
    const clusters = clustersFor(geometry, snapshot.l1Entries * 8);
    for (let i = 0; i < clusters; i++) renewal.remove(at / geometry.clusterSize + i);
    await renewal.judge();
    const l1 = await activeTree(image);
    await mendFlags(image, l1, renewal, 0, ({ at: place, bytes }) => image.file.write(bytes, place));
    const rest = table.slices.filter((_, index) => table.entries[index] !== snapshot);
    const snapshots = await change.writeSnapshots(rest);
    await change.finish({ ...(await change.moveL1(l1)), ...snapshots });
  });
}

/**
 * Puts a repaired snapshot table in the place of the one that is there, `length` bytes of which are counted. What
 * `isTaken` is not written to, whether it is counted or not: the old table must be, for the case of a power cut.
 */
export function replaceSnapshotTable(
  image: Image,
  table: EncodedTable,
  isTaken: CountsInUse['isTaken'],
): Promise<void> {
  return changing(
    image,
    async (change) => {
      const snapshots = await change.writeSnapshots(table.slices);
      await change.finish(snapshots);
    },
    { table, isTaken },
  );
}

function found(table: EncodedTable, choice: SnapshotChoice): SnapshotEntry {
  const snapshot = findSnapshot(table.entries, choice);
  if (snapshot === undefined) throw new DiskError('not-found', "Can't find the snapshot", { op: 'snapshot' });
  return snapshot;
}

/** The size that the disk had. @throws {DiskError} busy, not-supported, invalid, limit */
function judgeSize({ header, size: now }: Image, { diskSize }: SnapshotEntry): number {
  if (header.extensions.bitmaps !== undefined) throw new DiskError('busy', 'Device has active dirty bitmaps');
  if (diskSize === undefined || diskSize === BigInt(now)) return now;
  if (header.version === 2)
    throw new DiskError('not-supported', "Can't resize a v2 image which has snapshots");
  if (diskSize % 512n !== 0n) throw new DiskError('invalid', 'The new size must be a multiple of 512');
  if (diskSize > BigInt(Number.MAX_SAFE_INTEGER)) throw new DiskError('limit', 'Image is too big');
  return Number(diskSize);
}

/** What the active L1 table, wherever it is by now, leads to. */
function activeTree(image: Image): Promise<L1Tree> {
  const { at, entries } = image.l2.parent;
  return readTree(image, at, entries);
}

const bytesOf = ({ words }: L1Tree): Uint8Array =>
  new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

/** A change on its way. */
class Change {
  readonly renewal: Renewal;
  readonly table: EncodedTable;
  readonly #image: Image;

  constructor(image: Image, table: EncodedTable, isTaken: CountsInUse['isTaken']) {
    this.renewal = new Renewal(image.geometry, { ...countsOf(image), isTaken });
    this.table = table;
    this.#image = image;
    const { refcounts, geometry } = image;
    // Lazy refcounts may be in memory only: then all blocks are written anew.
    if (refcounts.blocks.dirtyBytes === 0) return;
    for (let region = 0; region < refcounts.table.entries; region++)
      if (refcounts.blocks.peek(region) !== NO_TABLE)
        this.renewal.touch(region * geometry.refcountBlockEntries);
  }

  /** Writes a table of bytes to a new place. @throws {DiskError} corrupt, no-space, io */
  async writeTable(bytes: Uint8Array): Promise<HostOffset> {
    const at = await this.renewal.allocate(clustersFor(this.#image.geometry, bytes.length));
    await this.#image.file.write(bytes, at);
    return at;
  }

  /** Puts the active L1 table to a new place; the old one's goes free. */
  async moveL1(l1: L1Tree): Promise<Pick<Header, 'l1At' | 'l1Entries'>> {
    const { parent } = this.#image.l2;
    this.#free(parent.at, parent.entries * 8);
    if (l1.entries === 0) return { l1At: hostOffset(0), l1Entries: 0 };
    return { l1At: await this.writeTable(bytesOf(l1)), l1Entries: l1.entries };
  }

  /** Puts the snapshot table to a new place; the old one's goes free. @throws {DiskError} limit */
  async writeSnapshots(
    slices: readonly Uint8Array[],
  ): Promise<Pick<Header, 'snapshotsAt' | 'snapshotCount'>> {
    const { header } = this.#image;
    this.#free(header.snapshotsAt, this.table.length);
    if (slices.length === 0) return { snapshotsAt: hostOffset(0), snapshotCount: 0 };
    const bytes = Buffer.concat(slices);
    if (bytes.length > MAX_SNAPSHOT_TABLE_BYTES) throw new DiskError('limit', 'Snapshot table is too big');
    return { snapshotsAt: await this.writeTable(bytes), snapshotCount: slices.length };
  }

  /** Writes the refcounts, and switches to all that is new. */
  async finish(structures: Partial<Header>): Promise<void> {
    const image = this.#image;
    const { file, header } = image;
    const table = await this.renewal.placeRefcounts();
    for await (const { at, bytes } of this.renewal.refcountWrites(table)) await file.write(bytes, at);
    await file.flush();
    const places = { refcountTableAt: table.at, refcountTableClusters: table.clusters };
    const next = { ...header, size: image.size, ...structures, ...places };
    const sector = Buffer.alloc(512);
    await file.read(sector, 0);
    const { bytes, offset } = structuresPatch(next, sector);
    try {
      await file.write(bytes, offset);
      await file.flush();
    } catch (error) {
      image.breakWith(error);
      throw error;
    }
    image.adopt(next);
  }

  #free(at: number, bytes: number): void {
    const { geometry } = this.#image;
    const first = Math.floor(at / geometry.clusterSize);
    for (let i = 0; i < clustersFor(geometry, bytes); i++) this.renewal.remove(first + i);
  }
}

function noSnapshots(): DiskError {
  return new DiskError('not-supported', 'an image with an external data file has no snapshots');
}

async function changing(
  image: Image,
  run: (change: Change) => Promise<void>,
  known?: { readonly table: EncodedTable; readonly isTaken: CountsInUse['isTaken'] },
): Promise<void> {
  if (hasFeature(image.header, 'dataFile')) throw noSnapshots();
  await image.holdSettled(async () => {
    const { file, header } = image;
    await image.refcounts.table.loadAll();
    try {
      const table = known?.table ?? (await readEncodedTable(file, header));
      await run(new Change(image, table, known?.isTaken ?? (() => false)));
    } catch (error) {
      // What was written lies in clusters that nothing uses, but they are not zeros any more.
      image.allocator.restart(file.size);
      throw error;
    }
  });
}

/** The refcounts of an image whose memory and file are the same. */
function countsOf({ refcounts, geometry, structures }: Image): Omit<CountsInUse, 'isTaken'> {
  const { table, blocks } = refcounts;
  return {
    regions: table.entries,
    table: { first: table.at / geometry.clusterSize, count: table.entries / geometry.wordsPerCluster },
    guard: (at, length) => structures.check(at, length, 'metadata'),
    region: async (region) => {
      const block = await blocks.get(region);
      if (block === NO_TABLE) return { uses: () => 0, block: undefined };
      structures.check(block.at, geometry.clusterSize, 'refcount block');
      if (blocks.isShared(block)) {
        const message = `two entries of the refcount table lead to 0x${block.at.toString(16)}`;
        throw new DiskError('corrupt', message, { offset: block.at });
      }
      return {
        uses: (index) => refcounts.read(block, index),
        block: { cluster: block.at / geometry.clusterSize, bytes: block.bytes },
      };
    },
  };
}
