/**
 * The bitmaps of an image that keeps none itself, in a file beside it.
 *
 * They are believed only if the image is as we left it: the file records its stamp when it is closed. Before the first
 * change of the image the file says that it is in use, durably, and it says so until the image is complete and its new
 * stamp is known. Whatever else happens to the image (a power cut, another program) the bitmaps are inconsistent, all
 * of them; they are never falsely clean and never vanish.
 */
import { DiskError, type HostSource } from '@strata/block';
import { type DirtyBitmap, mostMemory } from './bitmap.ts';
import { type BitmapKeeper, keptBitmap, type NamedBitmap } from './named-bitmaps.ts';
import {
  mostSideBitmaps,
  readSideBitmap,
  readSideId,
  readSideState,
  type SideEntry,
  type SideState,
  type SideWriting,
  writeSideFile,
} from './side-file.ts';
import type { SidePlace } from './side-place.ts';
import { type BitmapFacts, type BitmapSource, inconsistentBitmap, noSuchBitmap } from './store.ts';

/** What of an image its bitmaps are about. */
export interface SideSubject {
  /** Bytes of the disk, now. */
  size(): number;
  /** As of `HostSource`. */
  stamp(): Promise<string | undefined>;
}

/** An image that is written. */
export interface WrittenSubject extends SideSubject {
  /** Makes all that was written durable; resolves to the stamp. As of `HostFile`. */
  seal(): Promise<string | undefined>;
  /** Runs what changes bitmaps while nothing changes the image. */
  exclusively(change: () => Promise<void>): Promise<void>;
  /** There are bitmaps now, which must be told of changes. */
  appeared(): void;
}

/** Of images without clusters, as QEMU has it. */
export const defaultGranularity = 65_536;

type Row = NamedBitmap<SideEntry>;

/** Whether the image is as it was when the file was written. */
async function isBelieved(state: SideState, subject: SideSubject): Promise<boolean> {
  return !state.inUse && state.size === subject.size() && state.stamp === (await subject.stamp());
}

function factsOf(state: SideState, believed: boolean): readonly BitmapFacts[] {
  return state.entries.map(({ name, granularity, enabled, inconsistent }) => {
    const facts = { name, granularity, enabled, persistent: true, busy: false };
    return { ...facts, inconsistent: inconsistent || !believed };
  });
}

/** What was read of one state of a side file. */
interface ReadState {
  readonly state: SideState;
  readonly byName: ReadonlyMap<string, SideEntry>;
  readonly loaded: Map<string, DirtyBitmap>;
}

/** The bitmaps beside an image that is open for reading, as the file has them. */
export function sideBitmaps(place: SidePlace, subject: SideSubject): BitmapSource {
  const room = { left: mostMemory };
  let last: ReadState | undefined;
  const stateOf = async (file: HostSource): Promise<ReadState> => {
    if (last?.state.id === (await readSideId(file))) return last;
    const state = await readSideState(file);
    last = { state, byName: new Map(state.entries.map((entry) => [entry.name, entry])), loaded: new Map() };
    return last;
  };
  const reading = async <T>(
    work: (file: HostSource, read: ReadState) => Promise<T>,
  ): Promise<T | undefined> => {
    await using file = await place.open();
    return file && (await work(file, await stateOf(file)));
  };
  return {
    list: async () => {
      const found = await reading(async (_, { state }) => factsOf(state, await isBelieved(state, subject)));
      return found ?? [];
    },
    load: async (name) => {
      const bitmap = await reading(async (file, { state, byName, loaded }) => {
        const entry = byName.get(name);
        if (entry === undefined) return undefined;
        if (entry.inconsistent || !(await isBelieved(state, subject))) throw inconsistentBitmap(name);
        const known = loaded.get(name) ?? (await readSideBitmap(file, entry, state.size, room));
        loaded.set(name, known);
        return known;
      });
      if (bitmap === undefined) throw noSuchBitmap(name);
      return bitmap;
    },
  };
}

/** Keeps the bitmaps of an image that is open for writing in a file beside it. */
export class Sidecar implements BitmapKeeper<SideEntry> {
  readonly room = { left: mostMemory };
  readonly storesAnySize = true;
  readonly defaultGranularity = defaultGranularity;
  readonly #place: SidePlace;
  readonly #subject: WrittenSubject;
  /** As the file is; undefined: there is none. */
  #state: SideState | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(place: SidePlace, subject: WrittenSubject) {
    this.#place = place;
    this.#subject = subject;
  }

  size(): number {
    return this.#subject.size();
  }

  exclusively(change: () => Promise<void>): Promise<void> {
    return this.#subject.exclusively(change);
  }

  appeared(): void {
    this.#subject.appeared();
  }

  async read(): Promise<readonly Row[]> {
    await using file = await this.#place.open();
    if (file === undefined) return [];
    const state = await readSideState(file);
    this.#state = state;
    const facts = factsOf(state, await isBelieved(state, this.#subject));
    return facts.map((each, index) => keptBitmap(each, state.entries[index] as SideEntry));
  }

  load(row: Row): Promise<DirtyBitmap> {
    return this.#inTurn(async () => {
      await using file = await this.#openSame();
      return readSideBitmap(file as HostSource, row.kept as SideEntry, this.#state?.size ?? 0, this.room);
    });
  }

  /** All of them are: the stamp that they are believed by is about to change. */
  async markInUse(_: readonly Row[], all: readonly Row[]): Promise<void> {
    if (all.length > 0 && this.#state?.inUse !== true) await this.#save(all, { inUse: true, stamp: '' });
  }

  judge(rows: readonly Row[]): void {
    if (rows.length >= mostSideBitmaps)
      throw new DiskError('limit', 'Maximum number of persistent bitmaps is already reached');
  }

  add(_: Row, rows: readonly Row[]): Promise<void> {
    return this.#save(rows, { inUse: true, stamp: '' });
  }

  async remove(_: Row, rows: readonly Row[]): Promise<void> {
    if (rows.length > 0) return this.#save(rows, { inUse: true, stamp: '' });
    await this.#inTurn(async () => {
      await (await this.#openSame())?.[Symbol.asyncDispose]();
      await this.#place.remove();
      this.#state = undefined;
    });
  }

  rename(rows: readonly Row[]): Promise<void> {
    return this.#save(rows, { inUse: true, stamp: '' });
  }

  async store(rows: readonly Row[], all: readonly Row[]): Promise<void> {
    const isKept = this.#state?.inUse !== true && !rows.some(({ changed }) => changed);
    if (all.length === 0 || isKept) return;
    await this.markInUse(rows, all);
    const stamp = await this.#subject.seal();
    if (stamp === undefined) throw cannotTell();
    await this.#save(all, { inUse: false, stamp });
  }

  /** Replaces the file, with what memory has of contents and with the old file's for the rest. */
  #save(rows: readonly Row[], how: Pick<SideState, 'inUse' | 'stamp'>): Promise<void> {
    return this.#inTurn(() => this.#replace(rows, how));
  }

  async #replace(rows: readonly Row[], how: Pick<SideState, 'inUse' | 'stamp'>): Promise<void> {
    if ((await this.#subject.stamp()) === undefined) throw cannotTell();
    await using old = await this.#openSame();
    const bitmaps = rows.map(({ name, granularity, enabled, inconsistent, bitmap, kept }): SideWriting => {
      const copied = old && kept && !inconsistent ? { from: old, content: kept.content } : undefined;
      return { name, granularity, enabled, inconsistent, content: bitmap ?? copied };
    });
    let written: SideState | undefined;
    await this.#place.replace(async (file) => {
      written = await writeSideFile(file, { ...how, size: this.size() }, bitmaps);
    });
    this.#state = written;
    for (const [index, row] of rows.entries()) row.kept = written?.entries[index];
  }

  /** Runs what reads or replaces the file after all that was asked for before. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  /** The file that we know; undefined if we know of none. @throws {DiskError} busy if it is another one by now */
  async #openSame(): Promise<HostSource | undefined> {
    const file = await this.#place.open();
    try {
      const id = file && (await readSideId(file));
      if (id === this.#state?.id) return file;
    } catch (error) {
      await file?.[Symbol.asyncDispose]();
      throw error;
    }
    await file?.[Symbol.asyncDispose]();
    const message = 'the file of bitmaps beside the image was changed while the image was open';
    throw new DiskError('busy', message);
  }
}

function cannotTell(): DiskError {
  const message =
    'nothing would tell whether somebody else changed this image: it can keep no bitmaps beside it';
  return new DiskError('not-supported', message);
}
