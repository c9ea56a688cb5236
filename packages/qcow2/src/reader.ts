/**
 * Reading one image: maps guest offsets, and decodes what `map` called encoded.
 *
 * `tryMap` and `map` share one body; the first answers if the tables are in memory, the second loads them.
 */
import { DiskError, type HostSource, type Mapping } from '@strata/block';
import type { Codec } from './codec/codec.ts';
import { CompressedReader } from './compress.ts';
import type { GuestCipher, ReadClear } from './encryption.ts';
import type { Geometry } from './geometry.ts';
import {
  EntryForm,
  type L2Entry,
  placeOf,
  readL2Entry,
  SubclusterState,
  subclusterRun,
  subclusterState,
} from './l2-entry.ts';
import { corruptEntry, mapIn, misplacedEntry } from './mapping.ts';
import { mapSubclusters } from './mapping-subclusters.ts';
import { hasPreallocatedMetadata } from './preallocation.ts';
import type { Refcounts } from './refcounts.ts';
import { allOf } from './settle.ts';
import { type ClusterTable, type ClusterTables, NO_TABLE } from './tables.ts';

/** What a reader reads from. */
export interface ReaderParts {
  readonly file: HostSource;
  /** Holds the guest's bytes: `file`, or the external data file. */
  readonly data: HostSource;
  readonly geometry: Geometry;
  readonly l2: ClusterTables;
  readonly refcounts: Refcounts;
  /** Of compressed clusters. */
  readonly codec: Codec;
  /** How guest data is enciphered, if it is. */
  readonly cipher?: GuestCipher | undefined;
}

/** Reads one image. */
export class Reader {
  readonly compressed: CompressedReader;
  readonly #parts: ReaderParts;
  /** The entries are standard ones and lead into the image's own file, and the bytes there are the guest's. */
  readonly #isPlain: boolean;
  readonly #isEncrypted: boolean;
  readonly #readData: ReadClear;
  readonly #plain: { geometry: Geometry; file: HostSource; sparse: boolean };
  #probed = false;
  #probing: Promise<void> | undefined;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
    const { geometry } = parts;
    this.#isEncrypted = parts.cipher !== undefined;
    this.#isPlain = geometry.subclusters === 1 && !geometry.externalData && !this.#isEncrypted;
    this.#readData = parts.cipher?.reader(parts.data) ?? ((into, at) => parts.data.read(into, at));
    this.#plain = { geometry, file: parts.data, sparse: false };
    this.compressed = new CompressedReader(parts.file, parts.geometry, parts.codec);
  }

  /** As `LayerSource.tryMap`. */
  tryMap(offset: number, limit: number): Mapping | undefined {
    if (!this.#probed) return undefined;
    const l1Index = Math.floor(offset / this.#parts.geometry.l2Reach);
    const table = this.#parts.l2.peek(l1Index);
    if (table === undefined) return undefined;
    if (table === NO_TABLE) return this.#mapNothing(l1Index, offset, limit);
    return this.#isPlain ? mapIn(this.#plain, table, offset, limit) : this.#mapOther(table, offset, limit);
  }

  /** As `LayerSource.map`. @throws {DiskError} corrupt */
  async map(offset: number, limit: number): Promise<Mapping> {
    if (!this.#probed) await this.#probe();
    const { geometry, l2 } = this.#parts;
    const l1Index = Math.floor(offset / geometry.l2Reach);
    const table = await l2.get(l1Index);
    if (table === NO_TABLE) return this.#mapNothing(l1Index, offset, limit);
    const mapping = this.#isPlain
      ? mapIn(this.#plain, table, offset, limit)
      : this.#mapOther(table, offset, limit);
    if (mapping === undefined) throw this.#entryError(table, offset);
    return mapping;
  }

  /**
   * Fills `into` with guest bytes that this image holds in whatever form: what a concurrent write has turned
   * into plain data or zeros since `map` is read as such. Ranges that it does not hold are zeros.
   *
   * @throws {DiskError} corrupt
   */
  async read(into: Uint8Array, offset: number): Promise<void> {
    const { geometry, l2 } = this.#parts;
    const parts: Promise<void>[] = [];
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const within = at % geometry.clusterSize;
      const length = Math.min(geometry.clusterSize - within, into.length - done);
      const l1Index = Math.floor(at / geometry.l2Reach);
      const table = l2.peek(l1Index) ?? (await l2.get(l1Index));
      const run = this.#clearRun(table, at, into.length - done);
      if (run !== undefined) {
        parts.push(run.read(into.subarray(done, done + run.length)));
        done += run.length;
        continue;
      }
      const entries = within === 0 ? this.#compressedRun(table, at, into.length - done) : [];
      if (entries.length > 1) {
        const end = done + entries.length * geometry.clusterSize;
        parts.push(this.#readRun(entries, into.subarray(done, end), at));
        done = end;
        continue;
      }
      parts.push(this.#readCluster(table, into.subarray(done, done + length), at, within));
      done += length;
    }
    await allOf(parts);
  }

  /** The entries of the whole clusters from `offset` on that are compressed, at most `limit` bytes of them. */
  #compressedRun(table: ClusterTable, offset: number, limit: number): readonly L2Entry[] {
    const { geometry } = this.#parts;
    const entries: L2Entry[] = [];
    if (table === NO_TABLE) return entries;
    const index = this.#l2Index(offset);
    const most = Math.min(this.compressed.longestRun, Math.floor(limit / geometry.clusterSize));
    const end = Math.min(geometry.l2Entries, index + most);
    for (let next = index; next < end; next++) {
      const entry = readL2Entry(geometry, table.view, next);
      if (entry.form !== EntryForm.compressed) break;
      entries.push(entry);
    }
    return entries;
  }

  async #readRun(entries: readonly L2Entry[], into: Uint8Array, offset: number): Promise<void> {
    if (await this.compressed.readRun(entries, into)) return;
    const { geometry, l2 } = this.#parts;
    const { clusterSize } = geometry;
    const table = await l2.get(Math.floor(offset / geometry.l2Reach));
    await allOf(
      entries.map((_, index) => {
        const at = index * clusterSize;
        return this.#readCluster(table, into.subarray(at, at + clusterSize), offset + at, 0);
      }),
    );
  }

  async #readCluster(table: ClusterTable, into: Uint8Array, offset: number, within: number): Promise<void> {
    if (table === NO_TABLE) {
      into.fill(0);
      return;
    }
    const { geometry } = this.#parts;
    const index = this.#l2Index(offset);
    const entry = readL2Entry(geometry, table.view, index);
    const { form, high, low } = entry;
    const isBound = geometry.externalData && form === EntryForm.placed;
    if (form === EntryForm.corrupt || (isBound && placeOf(entry) !== offset - within))
      throw this.#entryError(table, offset);
    if (form !== EntryForm.compressed) return this.#readSubclusters(entry, into, offset, within);
    try {
      await this.compressed.read(high, low, into, within);
    } catch (error) {
      // A write may have replaced the cluster meanwhile, and other bytes have come to lie where it was.
      const now = await this.#parts.l2.get(Math.floor(offset / geometry.l2Reach));
      const then = now === NO_TABLE ? undefined : readL2Entry(geometry, now.view, index);
      if (then?.high === high && then.low === low) throw error;
      await this.#readCluster(now, into, offset, within);
    }
  }

  /** Fills `into` from `within` a cluster on that is not compressed. */
  async #readSubclusters(entry: L2Entry, into: Uint8Array, offset: number, within: number): Promise<void> {
    const { subclusterSize, subclusters } = this.#parts.geometry;
    const parts: Promise<void>[] = [];
    for (let done = 0; done < into.length; ) {
      const at = within + done;
      const index = Math.floor(at / subclusterSize);
      const end = (index + subclusterRun(entry, index, subclusters)) * subclusterSize;
      const part = into.subarray(done, Math.min(into.length, end - within));
      if (subclusterState(entry, index) === SubclusterState.data)
        parts.push(this.#readData(part, placeOf(entry) + at, offset + done));
      else part.fill(0);
      done += part.length;
    }
    await allOf(parts);
  }

  /** Clusters of enciphered data that follow each other in their file are read at once. */
  #clearRun(
    table: ClusterTable,
    offset: number,
    limit: number,
  ): { readonly length: number; readonly read: (into: Uint8Array) => Promise<void> } | undefined {
    if (!this.#isEncrypted || table === NO_TABLE) return undefined;
    const mapping = this.#mapPlaced(table, offset, limit);
    if (mapping?.kind !== 'raw') return undefined;
    return { length: mapping.length, read: (into) => this.#readData(into, mapping.at, offset) };
  }

  /** Enciphered data is nothing that others could fetch, and of no use to them is where it lies. */
  #mapOther(table: ClusterTable, offset: number, limit: number): Mapping | undefined {
    const mapping = this.#mapPlaced(table, offset, limit);
    if (!this.#isEncrypted || mapping === undefined) return mapping;
    const { kind, length } = mapping;
    if (kind === 'raw') return { kind: 'encoded', length };
    return kind === 'zero' ? { kind, length, at: undefined } : { kind, length };
  }

  /** Undefined as of `mapIn`, and also where an entry leads elsewhere than to its guest offset in a data file. */
  #mapPlaced(table: ClusterTable, offset: number, limit: number): Mapping | undefined {
    const { geometry } = this.#parts;
    const map = geometry.subclusters === 1 ? mapIn : mapSubclusters;
    const mapping = map(this.#plain, table, offset, limit);
    if (!geometry.externalData || mapping === undefined || mapping.kind === 'encoded') return mapping;
    return mapping.at === undefined || mapping.at === offset ? mapping : undefined;
  }

  /** Why the entry for `offset` cannot be followed. */
  #entryError(table: ClusterTable, offset: number): DiskError {
    const { geometry } = this.#parts;
    const index = this.#l2Index(offset);
    const { form } = readL2Entry(geometry, table.view, index);
    if (form === EntryForm.corrupt) return corruptEntry(geometry, table, index);
    return misplacedEntry(geometry, table, index, offset - (offset % geometry.clusterSize));
  }

  /** For a range that no L2 table describes: it ends where the loaded L1 table leads to one again. */
  #mapNothing(l1Index: number, offset: number, limit: number): Mapping {
    const { l2, geometry } = this.#parts;
    const known = l1Index < l2.parent.entries ? Math.max(1, l2.parent.zeroRun(l1Index)) : 1;
    return { kind: 'below', length: Math.min(limit, (l1Index + known) * geometry.l2Reach - offset) };
  }

  #l2Index(offset: number): number {
    const { clusterSize, l2Entries } = this.#parts.geometry;
    return Math.floor(offset / clusterSize) % l2Entries;
  }

  async #probe(): Promise<void> {
    const { file, geometry, refcounts } = this.#parts;
    this.#probing ??= hasPreallocatedMetadata(file, geometry, refcounts).then(
      (sparse) => {
        this.#plain.sparse = sparse;
        this.#probed = true;
      },
      (error: unknown) => {
        this.#probing = undefined;
        throw error;
      },
    );
    await this.#probing;
  }
}

/** The error for use after disposal. */
export function closedError(): DiskError {
  return new DiskError('closed', 'the image is closed');
}
