/** The bitmaps of an image that is open for reading, as the file has them. */
import {
  type BitmapFacts,
  type BitmapSource,
  type DirtyBitmap,
  inconsistentBitmap,
  noSuchBitmap,
} from '@strata/bitmap';
import type { HostSource } from '@strata/block';
import { loadBitmap, newRoom } from './bitmap-content.ts';
import { type BitmapEntry, listBitmaps } from './bitmaps.ts';
import { geometryOf } from './geometry.ts';
import type { Header } from './header.ts';

/** Bitmaps of one image; a bitmap is loaded anew by every call. */
export class StoredBitmaps implements BitmapSource {
  readonly #file: HostSource;
  readonly #header: Header;
  readonly #room = newRoom();

  constructor(file: HostSource, header: Header) {
    this.#file = file;
    this.#header = header;
  }

  async list(): Promise<readonly BitmapFacts[]> {
    return (await this.#entries()).map(({ name, granularity, auto, inUse }) => {
      return { name, granularity, enabled: auto, inconsistent: inUse, persistent: true, busy: false };
    });
  }

  async load(name: string): Promise<DirtyBitmap> {
    const entry = (await this.#entries()).find((each) => each.name === name);
    if (entry === undefined) throw noSuchBitmap(name);
    if (entry.inUse) throw inconsistentBitmap(name);
    return loadBitmap(this.#file, geometryOf(this.#header), this.#header.size, entry, this.#room);
  }

  #entries(): Promise<readonly BitmapEntry[]> {
    return listBitmaps(this.#file, this.#header);
  }
}
