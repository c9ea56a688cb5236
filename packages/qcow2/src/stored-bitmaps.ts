/** The bitmaps of an image that is open for reading, as the file has them. */
import {
  type BitmapFacts,
  type BitmapSource,
  type DirtyBitmap,
  inconsistentBitmap,
  noSuchBitmap,
} from '@strata/bitmap';
import type { HostSource } from '@strata/block';
import { LoadBudget, loadBitmap } from './bitmap-content.ts';
import { type BitmapEntry, listBitmaps } from './bitmaps.ts';
import { geometryOf } from './geometry.ts';
import type { Header } from './header.ts';

/** Bitmaps of one image, which nobody changes meanwhile. */
export class StoredBitmaps implements BitmapSource {
  readonly #file: HostSource;
  readonly #header: Header;
  readonly #budget: LoadBudget;
  readonly #loaded = new Map<string, Promise<DirtyBitmap>>();
  #reading: Promise<ReadonlyMap<string, BitmapEntry>> | undefined;

  constructor(file: HostSource, header: Header) {
    this.#file = file;
    this.#header = header;
    this.#budget = new LoadBudget(file.size);
  }

  async list(): Promise<readonly BitmapFacts[]> {
    return [...(await this.#entries()).values()].map(({ name, granularity, auto, inUse }) => {
      return { name, granularity, enabled: auto, inconsistent: inUse, persistent: true, busy: false };
    });
  }

  load(name: string): Promise<DirtyBitmap> {
    let bitmap = this.#loaded.get(name);
    if (bitmap === undefined) {
      bitmap = this.#load(name);
      this.#loaded.set(name, bitmap);
      bitmap.catch(() => this.#loaded.delete(name));
    }
    return bitmap;
  }

  async #load(name: string): Promise<DirtyBitmap> {
    const entry = (await this.#entries()).get(name);
    if (entry === undefined) throw noSuchBitmap(name);
    if (entry.inUse) throw inconsistentBitmap(name);
    return loadBitmap(this.#file, geometryOf(this.#header), this.#header.size, entry, this.#budget);
  }

  /** The directory by names, in its order. */
  #entries(): Promise<ReadonlyMap<string, BitmapEntry>> {
    this.#reading ??= listBitmaps(this.#file, this.#header).then(
      (entries) => new Map(entries.map((entry) => [entry.name, entry])),
    );
    return this.#reading;
  }
}
