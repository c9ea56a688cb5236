/**
 * Takes a backup: a new layer in a folder, full or on top of the newest one.
 *
 * What is written has hidden names until it is whole and durable. Then, each step durable before the next: the
 * journal says that the layer is whole and holds its manifest, the layer gets its name, the manifest is written, the
 * journal goes. A crash before the first of these leaves no backup, one after it leaves one that the next run
 * finishes. The folder's lock is held throughout.
 */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { DirtyBitmap } from '@strata/bitmap';
import { type BackingReference, compare, DiskError, isDiskError, type TransferOptions } from '@strata/block';
import { type Chain, compressingDevice, type WritableChain } from '@strata/chain';
import { ChangedOnly } from './changed-only.ts';
import { chainTo, type LockedFolder, nextNumber, readPoints } from './folder.ts';
import {
  dropUnfinished,
  type FoundJournal,
  isSame,
  partPath,
  readJournal,
  type Undertaking,
  writeJournal,
} from './journal.ts';
import { checkLayerFile, identifyFile } from './layer-file.ts';
import { formatManifest, layerName, type Manifest, manifestName } from './manifest.ts';
import { type Plan, type PlanWish, planBackup } from './plan.ts';
import { moveFile, replaceFile, syncFile } from './replace-file.ts';
import { type BackupSource, changesOf } from './source.ts';
import { transferChanges } from './transfer.ts';

/** Makes and opens the layers' files: the caller knows a format that can have a backing file. */
export interface LayerFiles {
  /** Makes an empty layer, durably. A relative name in `backing` begins in the layer's folder. */
  create(path: string, how: NewLayer): Promise<void>;
  /** Frees the space that a crash left unused in a layer. */
  mend(path: string): Promise<void>;
  /** Opens a layer for writing, what is under it for reading. */
  openWritable(path: string): Promise<WritableChain>;
  /** Opens a layer and what is under it for reading. Nothing outside of the folder may be opened. */
  open(path: string): Promise<Chain>;
}

/** What a new layer is to be. */
export interface NewLayer {
  /** Bytes of the disk. */
  readonly size: number;
  readonly clusterSize: number;
  readonly backing: BackingReference | undefined;
}

/** How a backup is taken. */
export interface TakeOptions extends PlanWish, TransferOptions {
  /** Compress, at the level given or at a fast one. */
  readonly compress?: { readonly level: number | undefined } | undefined;
  /** Go on with the backup that was interrupted, or fail. */
  readonly resume?: boolean;
  /** Compare the backup with the source before it counts. The source must be frozen. */
  readonly verify?: boolean;
  /** Bytes to read between two notes of how far it is; 64 MiB if not given. */
  readonly stretch?: number;
  readonly parallel?: number;
  /** Told of what a person should know. */
  readonly note?: (sentence: string) => void;
}

/** What taking a backup did. */
export interface TakeReport {
  readonly kind: Plan['kind'];
  readonly manifest: Manifest;
  /** Bytes that the bitmaps tell of; all of the disk for a full backup. */
  readonly changed: number;
  /** Bytes read from the source. */
  readonly read: number;
  /** Of those, bytes that had not changed. */
  readonly overhead: number;
  /** The offset at which an interrupted backup was gone on with; 0 for a new one. */
  readonly resumedAt: number;
  readonly verified: boolean;
  /** Milliseconds. */
  readonly duration: number;
}

const standardStretch = 64 << 20;

/**
 * Takes a backup of `source` into `folder`. One that an earlier run left nearly finished is finished first.
 *
 * @throws {DiskError} invalid, not-found, corrupt (see `planBackup`, `checkLayerFile`), no-space, aborted, and what the source throws
 */
export async function takeBackup(
  source: BackupSource,
  folder: LockedFolder,
  files: LayerFiles,
  options: TakeOptions = {},
): Promise<TakeReport> {
  const begun = performance.now();
  if (options.verify && !source.frozen) {
    throw new DiskError('invalid', 'a source that may change cannot be compared with its backup');
  }
  const journal = await finishCopied(folder.path, await readJournal(folder.path));
  const points = await readPoints(folder.path);
  const plan = planBackup(source, points, options);
  const took = (): number => performance.now() - begun;
  if (plan.kind === 'nothing') return nothingDone(plan.newest, took());
  const number = await nextNumber(folder.path);
  if (plan.kind === 'incremental') await checkParent(folder.path, plan.parent, files);
  if (plan.kind === 'incremental') chainTo(points, points.at(-1) as (typeof points)[number]);
  const undertaking = undertakingOf(source, plan, number, options);
  const resumedAt = await resumptionOf(folder.path, journal, undertaking, source, options);
  const taking: Taking = { source, folder: folder.path, files, plan, undertaking, options };
  try {
    const { changed, counts } = await fill(taking, resumedAt);
    const manifest = await settle(taking);
    await finish(folder.path, manifest);
    return {
      kind: plan.kind,
      manifest,
      changed,
      read: counts.read,
      overhead: counts.beyond,
      resumedAt: resumedAt ?? 0,
      verified: options.verify === true,
      duration: took(),
    };
  } catch (error) {
    // What cannot be gone on with only takes up room.
    if (!isResumable(source) || isDiskError(error, 'corrupt', 'invalid'))
      await dropUnfinished(folder.path).catch(() => undefined);
    throw error;
  }
}

/** A backup under way. */
interface Taking {
  readonly source: BackupSource;
  readonly folder: string;
  readonly files: LayerFiles;
  readonly plan: Exclude<Plan, { kind: 'nothing' }>;
  readonly undertaking: Undertaking;
  readonly options: TakeOptions;
}

function nothingDone(manifest: Manifest, duration: number): TakeReport {
  const none = { changed: 0, read: 0, overhead: 0, resumedAt: 0, verified: false };
  return { kind: 'nothing', manifest, ...none, duration };
}

/** Finishes a backup whose layer is whole. Returns the journal if there is still one. */
async function finishCopied(
  folder: string,
  journal: FoundJournal | undefined,
): Promise<Exclude<FoundJournal, { state: 'copied' }> | undefined> {
  if (journal?.state !== 'copied') return journal;
  await finish(folder, journal.manifest);
  return undefined;
}

/** The layer is whole and durable, under its hidden name or under its own; the journal has the manifest. */
async function finish(folder: string, manifest: Manifest): Promise<void> {
  const path = join(folder, layerName(manifest.number));
  if (await exists(partPath(folder))) await moveFile(partPath(folder), path);
  await checkLayerFile(folder, manifest, 'if-touched');
  await replaceFile(join(folder, manifestName(manifest.number)), formatManifest(manifest));
  await dropUnfinished(folder);
}

async function exists(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  );
}

async function checkParent(folder: string, parent: Manifest, files: LayerFiles): Promise<void> {
  await checkLayerFile(folder, parent, 'if-touched');
  await using chain = await files.open(join(folder, layerName(parent.number)));
  if (chain.source.size === parent.size) return;
  throw new DiskError(
    'corrupt',
    `layer '${layerName(parent.number)}' is of a disk of another size than its manifest says`,
  );
}

function undertakingOf(
  { disk, name, checkpoint }: BackupSource,
  plan: Taking['plan'],
  number: number,
  { compress }: TakeOptions,
): Undertaking {
  const isFull = plan.kind === 'full';
  return {
    number,
    size: disk.size,
    source: name,
    checkpoint,
    bitmaps: isFull ? [] : plan.bitmaps,
    parent: isFull ? undefined : plan.parent.file.sha256,
    compressed: compress !== undefined,
  };
}

/** The same point in time can be had again. */
function isResumable({ frozen, checkpoint }: BackupSource): boolean {
  return frozen && checkpoint !== undefined;
}

/** Where to go on; undefined: at the start, with nothing left of an earlier run. */
async function resumptionOf(
  folder: string,
  journal: Extract<FoundJournal, { state: 'copying' }> | undefined,
  undertaking: Undertaking,
  source: BackupSource,
  { resume, note }: TakeOptions,
): Promise<number | undefined> {
  const why =
    journal === undefined
      ? 'there is no backup that was interrupted'
      : !isSame(journal.undertaking, undertaking)
        ? 'it was of another point in time, or is to be another kind of backup'
        : !isResumable(source)
          ? 'nothing vouches for the source being as it was then'
          : !(await exists(partPath(folder)))
            ? 'its layer is gone'
            : undefined;
  if (why === undefined) return journal?.done;
  if (resume) throw new DiskError('invalid', `the backup cannot be gone on with: ${why}`);
  if (journal !== undefined) note?.(`an interrupted backup is dropped: ${why}`);
  await dropUnfinished(folder);
  return undefined;
}

/** Copies what is to be copied, to the end. */
async function fill(taking: Taking, resumedAt: number | undefined) {
  const { source, folder, files, plan, undertaking, options } = taking;
  const { disk } = source;
  const isFull = plan.kind === 'full';
  const changes = isFull ? everything(disk.size) : await changesOf(source, plan.bitmaps);
  const changed = changes.count;
  const path = partPath(folder);
  if (resumedAt === undefined) {
    const backing = isFull ? undefined : { name: layerName(plan.parent.number), format: 'qcow2' };
    // Small clusters do not compress well.
    const fine = !isFull && options.compress === undefined;
    const clusterSize = clusterFor(fine ? changes.granularity : mostCluster, disk.size);
    await files.create(path, { size: disk.size, clusterSize, backing });
    await writeJournal(folder, { state: 'copying', undertaking, done: 0 });
  } else await files.mend(path);
  const shown = new ChangedOnly(disk, changes);
  {
    await using chain = await files.openWritable(path);
    if (chain.device.size !== disk.size)
      throw new DiskError('corrupt', 'the unfinished layer has another size');
    const { compress } = options;
    const device = compress === undefined ? chain.device : compressingDevice(chain, compress);
    await transferChanges(shown, device, {
      ...transferOf(options),
      from: resumedAt ?? 0,
      stretch: options.stretch ?? standardStretch,
      targetIsZero: isFull,
      unit: compress === undefined ? 1 : device.caps.blockSize,
      settled: async (done) => {
        if (isResumable(source)) await writeJournal(folder, { state: 'copying', undertaking, done });
      },
    });
  }
  if (options.verify) await compareWith(disk, path, taking);
  await source.assertFrozen?.();
  return { changed, counts: shown.counts };
}

function transferOf({ progress, signal, rate, parallel }: TakeOptions) {
  return {
    ...(progress && { progress }),
    ...(signal && { signal }),
    ...(rate !== undefined && { rate }),
    ...(parallel !== undefined && { parallel }),
  };
}

function everything(size: number): DirtyBitmap {
  const all = new DirtyBitmap(size, mostCluster);
  all.setAll();
  return all;
}

const leastCluster = 4096;
const mostCluster = 65_536;
/** qcow2 leads to its clusters by at most 32 MiB of L1 table, each entry of it to a cluster of entries. */
const mostTables = 2 ** 22;

/** Clusters as small as what changes, so that nothing around it is copied, and as large as the disk demands. */
function clusterFor(granularity: number, size: number): number {
  let cluster = Math.min(Math.max(granularity, leastCluster), mostCluster);
  while (cluster < mostCluster && (cluster / 8) * cluster * mostTables < size) cluster *= 2;
  return cluster;
}

async function compareWith(
  disk: BackupSource['disk'],
  path: string,
  { files, options }: Taking,
): Promise<void> {
  await using chain = await files.open(path);
  const differs = await compare(disk, chain.source, options.signal ? { signal: options.signal } : {});
  if (differs === undefined) return;
  throw new DiskError('corrupt', `the backup differs from its source at offset ${differs}; it was dropped`, {
    offset: differs,
  });
}

/** Makes the layer durable, and says so in the journal. From then on the backup will be there. */
async function settle({ source, folder, plan, undertaking }: Taking): Promise<Manifest> {
  const path = partPath(folder);
  await syncFile(path);
  const manifest: Manifest = {
    number: undertaking.number,
    size: undertaking.size,
    parent:
      plan.kind === 'full' ? undefined : { number: plan.parent.number, sha256: plan.parent.file.sha256 },
    source: source.name,
    checkpoint: source.checkpoint,
    bitmaps: undertaking.bitmaps,
    frozen: source.frozen,
    time: new Date().toISOString(),
    file: await identifyFile(path),
  };
  await writeJournal(folder, { state: 'copied', manifest });
  return manifest;
}
