/**
 * Which contents a file may have after a power cut: the model of a disk that the crash tests enumerate.
 *
 * What ended before a flush began is durable once that flush has ended. Of all other changes that had begun,
 * any may have reached the disk and any may not, in pieces: a sector of 512 bytes is written whole or not at
 * all, a longer write may tear. The file ends where its last applied change ends, or later.
 */
import type { Random } from './random.ts';
import type { HostChange, RecordingFile } from './recording.ts';

const SECTOR = 512;

/** Between the ends of two flushes: what is durable, and what may or may not be there. */
export interface FlushWindow {
  /** The end of the flush that opened it, and of the one that closed it. */
  readonly from: number;
  readonly to: number;
  readonly durable: readonly HostChange[];
  readonly open: readonly HostChange[];
}

/** The windows of a recording, up to its last event; `beside`: of two files recorded together. */
export function windowsOf(file: RecordingFile, beside?: RecordingFile): FlushWindow[] {
  const files = beside === undefined ? [file] : [file, beside];
  const all = files.flatMap((each) => each.flushes.map((flush) => ({ ...flush, file: each })));
  const flushes = all.sort((a, b) => a.ended - b.ended);
  const bounds = [0, ...flushes.map(({ ended }) => ended), file.tick()];
  const durableBefore = new Map<RecordingFile, number>();
  const changes = files.flatMap((each) => each.changes);
  return bounds.slice(1).map((to, i) => {
    const from = bounds[i] as number;
    const flush = i > 0 ? flushes[i - 1] : undefined;
    if (flush !== undefined)
      durableBefore.set(flush.file, Math.max(durableBefore.get(flush.file) ?? 0, flush.began));
    const isDurable = (change: HostChange): boolean =>
      change.ended !== undefined && change.ended < (durableBefore.get(change.file) ?? 0);
    const begun = changes.filter(({ began }) => began < to);
    return {
      from,
      to,
      durable: begun.filter(isDurable),
      open: begun.filter((change) => !isDurable(change)),
    };
  });
}

/** A part of an open change that reached the disk; whole unless `from` and `to` say which sectors. */
export interface Kept {
  readonly change: HostChange;
  readonly from: number;
  readonly to: number;
}

const whole = (change: HostChange): Kept => ({ change, from: 0, to: change.length });

/** Selections of a window's open changes that a power cut may have kept. */
export function* selections(
  window: FlushWindow,
  random: Random,
  isData: (change: HostChange) => boolean,
): Generator<readonly Kept[]> {
  const { open } = window;
  if (open.length === 0) {
    yield [];
    return;
  }
  if (open.length <= 6) {
    for (let bits = 0; bits < 2 ** open.length; bits++)
      yield open.filter((_, i) => (bits >> i) & 1).map(whole);
  } else {
    for (let count = 0; count <= open.length; count++) yield open.slice(0, count).map(whole);
    for (let out = 0; out < open.length; out++) yield open.filter((_, i) => i !== out).map(whole);
    for (let only = 0; only < open.length; only++) yield open.filter((_, i) => i === only).map(whole);
    yield open.filter(isData).map(whole);
    yield open.filter((change) => !isData(change)).map(whole);
    for (let i = 0; i < 8; i++) yield open.filter(() => random.below(2) === 0).map(whole);
  }
  yield* tornSelections(open, random);
}

function* tornSelections(open: readonly HostChange[], random: Random): Generator<readonly Kept[]> {
  const long = open.filter(({ length, cut }) => length > SECTOR && !cut);
  for (const torn of long.slice(0, 8)) {
    const others = open.filter((change) => change !== torn && random.below(2) === 0).map(whole);
    const sectors = Math.ceil(torn.length / SECTOR);
    const middle = (1 + random.below(sectors - 1)) * SECTOR;
    yield inOrder([...others, { change: torn, from: 0, to: middle }]);
    yield inOrder([...others, { change: torn, from: middle, to: torn.length }]);
  }
  for (let i = 0; i < 4; i++) {
    yield open.flatMap((change) => {
      if (change.cut) return random.below(2) ? [whole(change)] : [];
      const parts: Kept[] = [];
      for (let from = 0; from < change.length; from += SECTOR) {
        const to = Math.min(from + SECTOR, change.length);
        if (random.below(2) === 0) parts.push({ change, from, to });
      }
      return parts;
    });
  }
}

const inOrder = (kept: readonly Kept[]): readonly Kept[] =>
  [...kept].sort((a, b) => a.change.began - b.change.began);

/**
 * The content of the file: `base` with the durable changes and those kept, in the order in which they began. Of
 * two files recorded together `file` says which.
 */
export function contentOf(
  base: Uint8Array,
  window: FlushWindow,
  kept: readonly Kept[],
  file?: RecordingFile,
): Uint8Array {
  const both = inOrder([...window.durable.map(whole), ...kept]);
  const all = both.filter(({ change }) => file === undefined || change.file === file);
  let size = base.length;
  for (const { change, to } of all) size = Math.max(size, change.cut ? change.offset : change.offset + to);
  const content = new Uint8Array(size);
  content.set(base);
  let end = base.length;
  for (const { change, from, to } of all) {
    if (change.cut) {
      content.fill(0, change.offset);
      end = change.offset;
      continue;
    }
    const at = change.offset + from;
    if (change.bytes === undefined) content.fill(0, at, change.offset + to);
    else content.set(change.bytes.subarray(from, to), at);
    end = Math.max(end, change.offset + to);
  }
  return content.subarray(0, end);
}
