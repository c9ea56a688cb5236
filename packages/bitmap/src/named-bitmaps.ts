/**
 * The named bitmaps of one open image in memory: what each says, who records, who is busy.
 *
 * Where they are kept is a `BitmapKeeper`'s concern: inside the image, in a file beside it. Transient bitmaps are kept
 * nowhere. While a bitmap is frozen for a job it goes on saying everything, and a second one records beside it what
 * changes since; so what is stored in the middle of a job is right too.
 */

import type { MemoryRoom } from './bit-tree.ts';
import { DirtyBitmap } from './bitmap.ts';
import {
  type BitmapFacts,
  type BitmapStore,
  bitmapExists,
  busyBitmap,
  type FrozenBitmap,
  inconsistentBitmap,
  judgeBitmapName,
  type NewBitmap,
  noSuchBitmap,
} from './store.ts';

/** A bitmap of an open image. `Kept` is what its keeper knows of it. */
export interface NamedBitmap<Kept> {
  name: string;
  readonly granularity: number;
  readonly persistent: boolean;
  readonly inconsistent: boolean;
  enabled: boolean;
  /** Undefined for a transient one. */
  kept: Kept | undefined;
  /** Its content, if it was needed. */
  bitmap: DirtyBitmap | undefined;
  /** What changed since it was frozen, if it is. */
  since: DirtyBitmap | undefined;
  /** How many keep it busy. */
  holds: number;
  /** The keeper does not have its content, or not its state. */
  changed: boolean;
}

/** Who keeps the bitmaps of an image. `rows` are always persistent ones. */
export interface BitmapKeeper<Kept> {
  /** The memory of all bitmaps together. */
  readonly room: MemoryRoom;
  /** What is kept of an inconsistent bitmap does no harm to a disk of another size. */
  readonly storesAnySize: boolean;
  /** As of `BitmapStore`. */
  readonly defaultGranularity: number;
  /** Bytes of the disk, now. */
  size(): number;
  /** Runs what changes bitmaps while nothing else changes the image. */
  exclusively(change: () => Promise<void>): Promise<void>;
  /** There are bitmaps now, which must be told of changes. */
  appeared(): void;
  /** What is kept. */
  read(): Promise<readonly NamedBitmap<Kept>[]>;
  load(row: NamedBitmap<Kept>): Promise<DirtyBitmap>;
  /** Makes durable that nobody may believe what is kept of `rows`, of `all`, until they are stored. */
  markInUse(rows: readonly NamedBitmap<Kept>[], all: readonly NamedBitmap<Kept>[]): Promise<void>;
  /** Judges what is to be added to `rows`. @throws {DiskError} not-supported, limit */
  judge(rows: readonly NamedBitmap<Kept>[], how: NewBitmap): void;
  /** Makes `rows` durably what is kept; the last of them is new, and its content is all clean. */
  add(row: NamedBitmap<Kept>, rows: readonly NamedBitmap<Kept>[]): Promise<void>;
  /** Makes `rows` durably what is kept, without `row`. */
  remove(row: NamedBitmap<Kept>, rows: readonly NamedBitmap<Kept>[]): Promise<void>;
  /** Makes `rows` durably what is kept, one of which has another name. */
  rename(rows: readonly NamedBitmap<Kept>[]): Promise<void>;
  /** Keeps contents and states of `rows`, of `all`; the image is complete by then. */
  store(rows: readonly NamedBitmap<Kept>[], all: readonly NamedBitmap<Kept>[]): Promise<void>;
}

/** A bitmap as its keeper found it. */
export function keptBitmap<Kept>(
  facts: Pick<BitmapFacts, 'name' | 'granularity' | 'enabled' | 'inconsistent'>,
  kept: Kept,
): NamedBitmap<Kept> {
  const state = { bitmap: undefined, since: undefined, holds: 0, changed: false, persistent: true };
  return { ...facts, ...state, kept };
}

/** The bitmaps of one open image. */
export class NamedBitmaps<Kept> implements BitmapStore {
  readonly #keeper: BitmapKeeper<Kept>;
  #opening: Promise<NamedBitmap<Kept>[]> | undefined;
  #recording: readonly DirtyBitmap[] = [];

  constructor(keeper: BitmapKeeper<Kept>) {
    this.#keeper = keeper;
  }

  get defaultGranularity(): number {
    return this.#keeper.defaultGranularity;
  }

  /** Tells all that record of a change that is about to happen. After `prepare`. */
  mark(offset: number, length: number): void {
    for (const bitmap of this.#recording) bitmap.set(offset, length);
  }

  /** Loads what records and has it marked as in use, durably. */
  async prepare(): Promise<void> {
    const rows = await this.#rows();
    const recording = rows.filter(({ enabled, inconsistent }) => enabled && !inconsistent);
    for (const row of recording) await this.#content(row);
    await this.#keeper.markInUse(recording.filter(isPersistent), rows.filter(isPersistent));
    this.#recording = recordingOf(recording);
  }

  async list(): Promise<readonly BitmapFacts[]> {
    return (await this.#rows()).map((row) => {
      const { name, granularity, enabled, inconsistent, persistent } = row;
      return { name, granularity, enabled, inconsistent, persistent, busy: row.holds > 0 };
    });
  }

  async load(name: string): Promise<DirtyBitmap> {
    const row = await this.#found(name);
    if (row.inconsistent) throw inconsistentBitmap(name);
    return this.#content(row);
  }

  async add(name: string, how: NewBitmap): Promise<void> {
    const { granularity, enabled = true, persistent = true } = how;
    const bitmap = new DirtyBitmap(this.#keeper.size(), granularity, this.#keeper.room);
    judgeBitmapName(name);
    await this.#keeper.exclusively(async () => {
      const rows = await this.#rows();
      if (rows.some((row) => row.name === name)) throw bitmapExists(name);
      const facts = { name, granularity, enabled, inconsistent: false };
      const row: NamedBitmap<Kept> = {
        ...keptBitmap<Kept | undefined>(facts, undefined),
        persistent,
        bitmap,
      };
      const kept = rows.filter(isPersistent);
      if (persistent) {
        this.#keeper.judge(kept, how);
        await this.#keeper.add(row, [...kept, row]);
      }
      rows.push(row);
      this.#keeper.appeared();
      await this.prepare();
    });
  }

  async remove(name: string): Promise<void> {
    await this.#keeper.exclusively(async () => {
      const row = await this.#found(name);
      if (row.holds > 0) throw busyBitmap(name);
      const rows = await this.#rows();
      if (row.persistent) {
        const others = rows.filter((other) => other !== row);
        await this.#keeper.remove(row, others.filter(isPersistent));
      }
      rows.splice(rows.indexOf(row), 1);
      await this.prepare();
      row.bitmap?.retire();
    });
  }

  async rename(name: string, to: string): Promise<void> {
    judgeBitmapName(to);
    await this.#keeper.exclusively(async () => {
      const row = await this.#found(name);
      if (row.holds > 0) throw busyBitmap(name);
      const rows = await this.#rows();
      if (name === to) return;
      if (rows.some((other) => other.name === to)) throw bitmapExists(to);
      row.name = to;
      try {
        if (row.persistent) await this.#keeper.rename(rows.filter(isPersistent));
      } catch (error) {
        row.name = name;
        throw error;
      }
    });
  }

  async clear(name: string): Promise<void> {
    await this.#change(name, (bitmap) => bitmap.clearAll());
  }

  async merge(name: string, other: DirtyBitmap): Promise<void> {
    await this.#change(name, (bitmap) => bitmap.merge(other));
  }

  async setEnabled(name: string, enabled: boolean): Promise<void> {
    await this.#keeper.exclusively(async () => {
      const row = await this.#free(name);
      if (row.enabled === enabled) return;
      await this.#content(row);
      row.enabled = enabled;
      row.changed = true;
      await this.prepare();
    });
  }

  async freeze(name: string): Promise<FrozenBitmap> {
    let frozen: FrozenBitmap | undefined;
    await this.#keeper.exclusively(async () => {
      const row = await this.#free(name);
      const bitmap = await this.#content(row);
      const since = new DirtyBitmap(bitmap.size, row.granularity, this.#keeper.room);
      const content = bitmap.copy();
      row.since = since;
      row.holds++;
      try {
        await this.prepare();
      } catch (error) {
        row.since = undefined;
        row.holds--;
        throw error;
      }
      frozen = { content, end: (left) => this.#thaw(row, content, left) };
    });
    return frozen as FrozenBitmap;
  }

  async hold(name: string): Promise<() => void> {
    const row = await this.#found(name);
    if (row.inconsistent) throw inconsistentBitmap(name);
    if (row.since !== undefined) throw busyBitmap(name);
    row.holds++;
    let held = true;
    return () => {
      if (held) row.holds--;
      held = false;
    };
  }

  /**
   * Loads everything that a change of the disk's size would change, and has it marked as in use: what is kept may not
   * fit the new size. @throws {DiskError} invalid (inconsistent), busy (frozen)
   */
  async prepareResize(): Promise<void> {
    const rows = await this.#rows();
    for (const row of rows) {
      if (row.since !== undefined) throw busyBitmap(row.name);
      if (!row.inconsistent) await this.#content(row);
      else if (!this.#keeper.storesAnySize) throw inconsistentBitmap(row.name);
    }
    const kept = rows.filter(isPersistent);
    await this.#keeper.markInUse(kept, kept);
  }

  /** The disk has another size from now on. */
  async resized(): Promise<void> {
    const rows = await this.#rows();
    for (const row of rows) {
      const old = row.bitmap;
      if (old === undefined) continue;
      row.bitmap = old.resized(this.#keeper.size());
      row.changed = true;
      old.retire();
    }
    this.#recording = recordingOf(rows);
    await this.prepare();
  }

  /** Has kept what is not kept yet. Everything else of the image must be there already. */
  async store(): Promise<void> {
    if (this.#opening === undefined) return;
    const rows = (await this.#rows()).filter(isPersistent);
    const usable = rows.filter(({ inconsistent }) => !inconsistent);
    await this.#keeper.store(usable, rows);
    for (const row of usable) row.changed = false;
    this.#recording = [];
  }

  #rows(): Promise<NamedBitmap<Kept>[]> {
    this.#opening ??= this.#keeper.read().then(
      (rows) => [...rows],
      (error: unknown) => {
        this.#opening = undefined;
        throw error;
      },
    );
    return this.#opening;
  }

  async #found(name: string): Promise<NamedBitmap<Kept>> {
    const row = (await this.#rows()).find((each) => each.name === name);
    if (row === undefined) throw noSuchBitmap(name);
    return row;
  }

  /** One that may be changed. */
  async #free(name: string): Promise<NamedBitmap<Kept>> {
    const row = await this.#found(name);
    if (row.holds > 0) throw busyBitmap(name);
    if (row.inconsistent) throw inconsistentBitmap(name);
    return row;
  }

  async #content(row: NamedBitmap<Kept>): Promise<DirtyBitmap> {
    row.bitmap ??= await this.#keeper.load(row);
    return row.bitmap;
  }

  async #change(name: string, change: (bitmap: DirtyBitmap) => void): Promise<void> {
    await this.#keeper.exclusively(async () => {
      const row = await this.#free(name);
      change(await this.#content(row));
      row.changed = true;
    });
  }

  async #thaw(row: NamedBitmap<Kept>, content: DirtyBitmap, left: DirtyBitmap | undefined): Promise<void> {
    await this.#keeper.exclusively(async () => {
      const { bitmap, since } = row;
      if (bitmap === undefined || since === undefined) return;
      if (left !== undefined) since.merge(left);
      bitmap.clearAll();
      bitmap.merge(since);
      row.since = undefined;
      row.holds--;
      row.changed = true;
      await this.prepare();
      for (const each of [since, content]) each.retire();
    });
  }
}

/** The bitmaps that are told of changes. */
function recordingOf<Kept>(rows: readonly NamedBitmap<Kept>[]): readonly DirtyBitmap[] {
  const enabled = rows.filter(({ enabled, inconsistent }) => enabled && !inconsistent);
  return enabled.flatMap(({ bitmap, since }) => [bitmap, since]).filter((each) => each !== undefined);
}

function isPersistent<Kept>({ persistent }: NamedBitmap<Kept>): boolean {
  return persistent;
}
