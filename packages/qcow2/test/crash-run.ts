/**
 * Runs guest changes on a recorded image, and judges every content that a power cut may leave by what the
 * guest may then see.
 *
 * Each sector that the guest writes carries the number of its write, so that a sector tells where its bytes
 * come from. After a cut, a sector must show what the last completed guest flush covered or something written
 * to it later, never another sector's bytes, never what a cluster held before for somebody else; `check` must
 * find no damage, and leaks only.
 */
import assert from 'node:assert/strict';
import { type BlockSource, MemoryDevice, type Preallocation } from '@strata/block';
import { checkImage } from '../src/check.ts';
import { writeCompressed } from '../src/compressed-write.ts';
import { copyFrom } from '../src/copy-range.ts';
import { repairDirty } from '../src/dirty-bit.ts';
import { discard } from '../src/discard.ts';
import { empty } from '../src/empty.ts';
import { openEncryption } from '../src/encryption.ts';
import { hasFeature } from '../src/features.ts';
import { Autoclear } from '../src/format.ts';
import { readHeader } from '../src/header.ts';
import { Image, type ImageOptions } from '../src/image.ts';
import { qcow2FormatWith } from '../src/layer.ts';
import { resize } from '../src/resize.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { contentOf, type FlushWindow, type Kept, selections, windowsOf } from './crash-states.ts';
import { readGuest } from './guest.ts';
import { type Random, seeded } from './random.ts';
import { drive, type HostChange, RecordingFile } from './recording.ts';

const SECTOR = 512;
/** The first byte of every sector that the guest wrote, and of every sector of the image below. */
const GUEST_MARK = 0xd1;
const BELOW_MARK = 0xb5;

/** An image to start from. */
export interface Start {
  readonly bytes: Uint8Array;
  /** Sectors of the image below are marked and numbered; otherwise nothing is below. */
  readonly backed: boolean;
  /** The image keeps its data in another file, which holds this. */
  readonly data?: Uint8Array;
}

/** What happened to one sector of the guest's disk, in order. */
interface SectorEvent {
  readonly value: number;
  readonly issued: number;
  resolved: number;
}

/** A run of guest changes and its recording. */
export interface Run {
  readonly start: Start;
  readonly file: RecordingFile;
  /** How the image is opened. */
  readonly image: ImageOptions;
  readonly dataFile: RecordingFile | undefined;
  readonly size: number;
  /** The smallest and the largest size that the disk was given. */
  readonly smallest: number;
  readonly largest: number;
  readonly history: readonly (readonly SectorEvent[])[];
  readonly flushes: readonly { readonly issued: number; readonly resolved: number }[];
}

/** A guest change, in sectors. */
export type GuestChange =
  | {
      readonly kind: 'write' | 'copy' | 'compress' | 'zero' | 'reserve' | 'discard';
      readonly from: number;
      readonly to: number;
    }
  | { readonly kind: 'flush' | 'empty' }
  | { readonly kind: 'resize'; readonly sectors: number; readonly preallocation?: Preallocation };

/** How a run is made; what differs from the engine as it is makes a broken one. */
export interface RunOptions {
  readonly seed: number;
  readonly image?: ImageOptions;
  readonly sabotage?: (image: Image, file: RecordingFile, dataFile: RecordingFile | undefined) => void;
}

const belowValue = (sector: number): number => BELOW_MARK * 2 ** 24 + sector;

function markedSectors(count: number, numberOf: (sector: number) => number): Uint8Array {
  const bytes = new Uint8Array(count * SECTOR);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += 4) view.setUint32(at, numberOf(Math.floor(at / SECTOR)));
  return bytes;
}

/** What is below: marked sectors or nothing, `size` bytes of it. */
async function belowOf(start: Start, size: number): Promise<BlockSource> {
  const below = new MemoryDevice(size);
  if (start.backed) await below.write(markedSectors(size / SECTOR, belowValue), 0);
  return below;
}

/** Applies batches of changes to the image, the changes of one batch side by side. */
export async function runChanges(
  start: Start,
  batches: readonly (readonly GuestChange[])[],
  options: RunOptions,
): Promise<Run> {
  const memory = new MemoryDevice();
  await memory.write(start.bytes, 0);
  const file = new RecordingFile(memory);
  const header = await readHeader(file);
  const imageOptions = options.image ?? {};
  const cipher = await openEncryption(file, header, imageOptions);
  const data = new MemoryDevice();
  await data.write(start.data ?? new Uint8Array(0), 0);
  const dataFile = start.data === undefined ? undefined : new RecordingFile(data, file);
  const image = new Image(file, header, imageOptions, dataFile, cipher);
  options.sabotage?.(image, file, dataFile);
  file.immediate = false;
  const size = image.size;
  const sizes = batches.flat().map((change) => (change.kind === 'resize' ? change.sectors * SECTOR : size));
  const smallest = Math.min(size, ...sizes);
  const largest = Math.max(size, ...sizes);
  const below = await belowOf(start, largest);
  const random = seeded(options.seed);
  const initial = (sector: number): SectorEvent => ({
    value: start.backed ? belowValue(sector) : 0,
    issued: 0,
    resolved: 0,
  });
  const history = Array.from({ length: size / SECTOR }, (_, sector) => [initial(sector)]);
  const flushes: { issued: number; resolved: number }[] = [];
  let stamp = 0;

  const runOne = async (change: GuestChange): Promise<void> => {
    const issued = file.tick();
    if (change.kind === 'flush') {
      await image.barrier.run();
      for (const each of [file, dataFile])
        if (each?.ignoresFlushes) each.flushes.push({ began: file.tick(), ended: file.tick() });
      flushes.push({ issued, resolved: file.tick() });
      return;
    }
    if (change.kind === 'resize') {
      const { sectors, preallocation = 'off' } = change;
      return resize(image, sectors * SECTOR, below, { preallocation });
    }
    const isMarked = ['write', 'copy', 'compress'].includes(change.kind);
    const value = isMarked ? GUEST_MARK * 2 ** 24 + ++stamp : 0;
    const touched = sectorsOf(change, image);
    const events = touched.map((sector) => {
      const event = {
        value: change.kind === 'empty' ? initial(sector).value : value,
        issued,
        resolved: Number.POSITIVE_INFINITY,
      };
      history[sector]?.push(event);
      return event;
    });
    await applyChange(image, change, value, below);
    const resolved = file.tick();
    for (const event of events) event.resolved = resolved;
  };
  for (const batch of batches)
    await drive(file, Promise.all(batch.map(runOne)), (count) => random.below(count));
  await drive(file, image.barrier.run(), () => 0);
  return { start, file, dataFile, image: imageOptions, size, smallest, largest, history, flushes };
}

function sectorsOf(change: GuestChange, image: Image): number[] {
  const all = image.size / SECTOR;
  if (change.kind === 'empty') return Array.from({ length: all }, (_, sector) => sector);
  if (!('from' in change)) return [];
  let { from, to } = change;
  if (change.kind === 'discard') {
    if (image.geometry.version === 2 && image.hasBacking) return [];
    const perCluster = image.geometry.clusterSize / SECTOR;
    from = Math.ceil(from / perCluster) * perCluster;
    if (to !== all) to = Math.floor(to / perCluster) * perCluster;
  }
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
}

function applyChange(image: Image, change: GuestChange, value: number, below: BlockSource): Promise<void> {
  if (change.kind === 'empty') return empty(image);
  if (!('from' in change)) throw new RangeError(change.kind);
  const offset = change.from * SECTOR;
  const length = (change.to - change.from) * SECTOR;
  if (change.kind === 'write') {
    return write(
      image,
      markedSectors(length / SECTOR, () => value),
      offset,
      below,
    );
  }
  if (change.kind === 'copy') {
    const host = new MemoryDevice();
    return host
      .write(
        markedSectors(length / SECTOR, () => value),
        0,
      )
      .then(() => copyFrom(image, { host, at: 0, length }, offset, below))
      .then((isCopied) => assert.ok(isCopied));
  }
  if (change.kind === 'compress') {
    const bytes = markedSectors(length / SECTOR, () => value);
    // What is looked at are the ends of a sector; between them is what does not compress, now and then.
    if (value % 3 === 0) fillMiddles(bytes, seeded(value));
    return writeCompressed(image, bytes, offset, below, {});
  }
  if (change.kind === 'discard') return discard(image, offset, length);
  return zero(image, offset, length, below, { allocate: change.kind === 'reserve' });
}

/** Makes sectors incompressible, but for their first and last numbers. */
function fillMiddles(bytes: Uint8Array, random: Random): void {
  for (let at = 0; at < bytes.length; at++) {
    const within = at % SECTOR;
    if (within >= 4 && within < SECTOR - 4) bytes[at] = random.below(256);
  }
}

/** True for host changes that carry guest bytes. */
const isData = ({ bytes }: HostChange): boolean => bytes?.[0] === GUEST_MARK || bytes?.[0] === BELOW_MARK;

/** What was wrong after a power cut. */
export interface Fault {
  readonly what: string;
  readonly window: number;
}

/** Goes through the contents that a power cut may leave. `most` bounds how many. */
export async function crashEverywhere(
  run: Run,
  seed: number,
  most = Number.POSITIVE_INFINITY,
): Promise<{ readonly states: number; readonly faults: readonly Fault[] }> {
  const random = seeded(seed);
  const faults: Fault[] = [];
  let states = 0;
  for (const [number, window] of windowsOf(run.file, run.dataFile).entries()) {
    for (const kept of selections(window, random, isData)) {
      if (states >= most) return { states, faults };
      states++;
      const what = await judge(run, window, kept);
      if (what !== undefined) faults.push({ what, window: number });
    }
  }
  return { states, faults };
}

async function judge(run: Run, window: FlushWindow, kept: readonly Kept[]): Promise<string | undefined> {
  const memory = new MemoryDevice();
  await memory.write(contentOf(run.start.bytes, window, kept, run.file), 0);
  const data = new MemoryDevice();
  if (run.dataFile !== undefined)
    await data.write(contentOf(run.start.data as Uint8Array, window, kept, run.dataFile), 0);
  try {
    const header = await readHeader(memory);
    const isDirty = hasFeature(header, 'dirty');
    // Its refcounts may be stale; counted anew they must be right, and no leak is left.
    if (isDirty) await repairDirty(memory);
    const report = await checkImage(memory);
    if (report.corruptions + report.checkErrors > 0 || (isDirty && report.leaks > 0))
      return `check: ${report.findings.map(({ text }) => text).join('; ')}`;
    const source = await qcow2FormatWith(run.image).openSource(memory, { openDataFile: async () => data });
    if (![run.size, run.smallest, run.largest].includes(source.size)) return `a size of ${source.size}`;
    const below = await belowOf(run.start, run.largest);
    const seen = await readGuest(source, 0, source.size, below);
    if (seen.subarray(run.size).some((byte) => byte !== 0)) return 'what was added is not zeros';
    const wrong = judgeGuest(run, window, kept, seen.subarray(0, run.size));
    if (wrong !== undefined || (header.autoclear & Autoclear.rawData) === 0n) return wrong;
    // The data file by itself is a disk as well that a power cut may leave.
    const raw = new Uint8Array(Math.min(run.size, source.size));
    await data.read(raw, 0);
    return judgeGuest(run, window, kept, raw);
  } catch (error) {
    return `not readable: ${error}`;
  }
}

function judgeGuest(
  run: Run,
  window: FlushWindow,
  kept: readonly Kept[],
  seen: Uint8Array,
): string | undefined {
  const last = Math.max(0, ...window.durable.map(({ began }) => began), ...kept.map((k) => k.change.began));
  const covered = Math.max(
    0,
    ...run.flushes.filter(({ resolved }) => resolved < window.to).map(({ issued }) => issued),
  );
  const view = new DataView(seen.buffer, seen.byteOffset, seen.byteLength);
  for (let sector = 0; sector * SECTOR < seen.length; sector++) {
    const value = view.getUint32(sector * SECTOR);
    const events = run.history[sector] as readonly SectorEvent[];
    const base = events.findLastIndex(({ resolved }) => resolved === 0 || resolved < covered);
    const fine = events.some(
      (event, i) => event.value === value && (i === base || (i > base && event.issued < last)),
    );
    const isUniform = view.getUint32(sector * SECTOR + SECTOR - 4) === value;
    if (fine && isUniform) continue;
    const known = events.map(({ value: v }) => v.toString(16)).join(' ');
    return `sector ${sector} shows ${value.toString(16)} of ${known}, base ${base}`;
  }
  return undefined;
}

/** Random batches of changes whose sectors do not overlap within a batch. */
export function randomBatches(
  random: Random,
  sectors: number,
  count: number,
  perCluster: number,
  { compress = false }: { readonly compress?: boolean } = {},
): GuestChange[][] {
  return Array.from({ length: count }, () => {
    if (random.below(5) === 0) return [{ kind: 'flush' } as const];
    const batch: GuestChange[] = [];
    const taken = new Set<number>();
    for (let i = random.below(4); i >= 0; i--) {
      let from = random.below(sectors);
      let to = Math.min(sectors, from + 1 + random.below(random.below(2) ? perCluster * 3 : 3));
      const compressed = compress && random.below(2) === 0;
      if (compressed) {
        from -= from % perCluster;
        to = Math.min(sectors, Math.ceil(to / perCluster) * perCluster);
      }
      const range = Array.from({ length: to - from }, (_, k) => from + k);
      if (range.some((sector) => taken.has(sector))) continue;
      for (const sector of range) taken.add(sector);
      const kind = compressed
        ? 'compress'
        : random.pick(['write', 'write', 'write', 'zero', 'reserve', 'discard'] as const);
      batch.push({ kind, from, to });
    }
    if (random.below(6) === 0) batch.push({ kind: 'flush' });
    return batch;
  });
}

/** Asserts that a power cut does no harm at any point of a run. */
export async function assertSurvives(run: Run, seed: number, most?: number): Promise<number> {
  const { states, faults } = await crashEverywhere(run, seed, most);
  assert.deepEqual(faults.slice(0, 3), [], `seed ${seed}: ${faults.length} of ${states} states`);
  return states;
}
