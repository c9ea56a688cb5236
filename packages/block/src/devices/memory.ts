/**
 * A host file in memory: pages that are made when they are first written.
 *
 * For tests, for small images, and as what a file device must equal. A page that was never written, or was
 * zeroed whole, takes no memory and is a `zero` extent.
 */
import { checkRange } from '../checked.ts';
import type { Capabilities, Extent, HostFile, ZeroOptions } from '../device.ts';
import { Lifetime } from '../lifetime.ts';

const PAGE = 65536;
const CAPS: Capabilities = Object.freeze({ blockSize: 1, zero: 'native', discard: 'native' });

/** A growable, sparse host file in memory. Nothing of it outlives its disposal. */
export class MemoryDevice implements HostFile {
  readonly caps = CAPS;
  readonly path: string | undefined;
  readonly #pages = new Map<number, Uint8Array>();
  readonly #lifetime = new Lifetime();
  #size: number;

  /** @param path what it calls itself in messages; no file of that name is touched */
  constructor(size = 0, path?: string) {
    checkRange(0, size, Number.MAX_SAFE_INTEGER);
    this.#size = size;
    this.path = path;
  }

  get size(): number {
    return this.#size;
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    this.#check(offset, into.length);
    forEachPage(offset, into.length, (page, start, end, at) => {
      const bytes = this.#pages.get(page);
      if (bytes) into.set(bytes.subarray(start, end), at);
      else into.fill(0, at, at + end - start);
    });
    return true;
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    this.tryRead(into, offset);
  }

  tryExtentAt(offset: number, limit: number): Extent {
    this.#check(offset, 1);
    if (!(limit >= 1)) throw new RangeError(`extent of at most ${limit} bytes`);
    const page = Math.floor(offset / PAGE);
    const data = offset < this.#size && this.#pages.has(page);
    const end = data ? Math.min(this.#endOfData(page), this.#size) : this.#endOfHole(page);
    return { offset, length: Math.min(end - offset, limit), kind: data ? 'data' : 'zero', depth: 1 };
  }

  async extentAt(offset: number, limit: number): Promise<Extent> {
    return this.tryExtentAt(offset, limit);
  }

  async write(from: Uint8Array, offset: number): Promise<void> {
    this.#check(offset, from.length);
    forEachPage(offset, from.length, (page, start, end, at) => {
      this.#pageForWriting(page).set(from.subarray(at, at + end - start), start);
    });
    if (from.length > 0) this.#size = Math.max(this.#size, offset + from.length);
  }

  async zero(offset: number, length: number, how: ZeroOptions = {}): Promise<void> {
    this.#check(offset, length);
    if (how.allocate) forEachPage(offset, length, (page) => this.#pageForWriting(page));
    this.#clear(offset, length, { keepPages: how.allocate === true });
    if (length > 0) this.#size = Math.max(this.#size, offset + length);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
    const inside = Math.min(offset + length, this.#size) - offset;
    if (inside > 0) this.#clear(offset, inside, { keepPages: false });
  }

  async flush(): Promise<void> {
    this.#lifetime.check();
  }

  async allocated(): Promise<number> {
    this.#lifetime.check();
    return this.#pages.size * PAGE;
  }

  async truncate(size: number): Promise<void> {
    this.#check(0, size);
    if (size < this.#size) this.#clear(size, this.#size - size, { keepPages: false });
    this.#size = size;
  }

  /** A copy of all bytes. */
  bytes(): Uint8Array {
    const all = new Uint8Array(this.#size);
    this.tryRead(all, 0);
    return all;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifetime.end(async () => this.#pages.clear());
  }

  #check(offset: number, length: number): void {
    this.#lifetime.check();
    checkRange(offset, length, Number.MAX_SAFE_INTEGER);
  }

  #pageForWriting(page: number): Uint8Array {
    let bytes = this.#pages.get(page);
    if (bytes === undefined) {
      bytes = new Uint8Array(PAGE);
      this.#pages.set(page, bytes);
    }
    return bytes;
  }

  #endOfData(page: number): number {
    let next = page + 1;
    while (this.#pages.has(next)) next++;
    return next * PAGE;
  }

  /** Holes may be of 2^40 pages: after some steps the pages that are there are looked through instead. */
  #endOfHole(page: number): number {
    for (let next = page + 1; next < page + 1024; next++) {
      if (this.#pages.has(next)) return next * PAGE;
    }
    let end = Number.POSITIVE_INFINITY;
    for (const present of this.#pages.keys()) {
      if (present > page && present * PAGE < end) end = present * PAGE;
    }
    return end;
  }

  #clear(offset: number, length: number, { keepPages }: { readonly keepPages: boolean }): void {
    if (length > this.#pages.size * PAGE) {
      this.#clearPresent(offset, offset + length, keepPages);
    } else {
      forEachPage(offset, length, (page, start, end) => this.#clearInPage(page, start, end, keepPages));
    }
  }

  /** For ranges larger than all that is there: a hole of 2^50 bytes has too many pages to walk. */
  #clearPresent(offset: number, end: number, keepPages: boolean): void {
    for (const page of [...this.#pages.keys()]) {
      const from = Math.max(offset - page * PAGE, 0);
      const to = Math.min(end - page * PAGE, PAGE);
      if (from < to) this.#clearInPage(page, from, to, keepPages);
    }
  }

  #clearInPage(page: number, start: number, end: number, keepPages: boolean): void {
    const pastTheEnd = page * PAGE + end >= this.#size;
    if (!keepPages && start === 0 && (end === PAGE || pastTheEnd)) this.#pages.delete(page);
    else this.#pages.get(page)?.fill(0, start, end);
  }
}

/** Calls `visit` for each page the range touches, with the part of the page and where it stands in the range. */
function forEachPage(
  offset: number,
  length: number,
  visit: (page: number, start: number, end: number, at: number) => void,
): void {
  for (let at = 0; at < length; ) {
    const page = Math.floor((offset + at) / PAGE);
    const start = offset + at - page * PAGE;
    const end = Math.min(PAGE, start + length - at);
    visit(page, start, end, at);
    at += end - start;
  }
}
