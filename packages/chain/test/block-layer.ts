/** A layer over arrays, one state for each block of 16 bytes: what the chain's tests stack. */
import {
  type BackingReference,
  type BlockSource,
  type Capabilities,
  DiskError,
  type Extent,
  type HostRange,
  type HostSource,
  type ImageFormat,
  type Layer,
  type Mapping,
} from '@strata/block';

const blockSize = 16;
type State = 'raw' | 'encoded' | 'zero' | 'reserved' | 'below';

/** A small layer that keeps everything in memory. `waits`: its tables are never at hand, so every try fails. */
export class BlockLayer implements Layer {
  readonly format = 'blocks';
  readonly caps: Capabilities = { blockSize, zero: 'native', discard: 'native' };
  backing: BackingReference | undefined;
  size: number;
  flushed = 0;
  /** What `flushed` must reach for the last change to be durable. */
  changed = 0;
  disposed = false;
  /** Where its raw bytes lie. */
  place: ((offset: number, limit: number) => HostRange) | undefined;
  #bytes: Uint8Array;
  readonly #states = new Map<number, State>();
  readonly #waits: boolean;

  constructor(size: number, options: { backing?: BackingReference; waits?: boolean } = {}) {
    this.size = size;
    this.backing = options.backing;
    this.#waits = options.waits ?? false;
    this.#bytes = new Uint8Array(size);
  }

  /** Sets blocks to a state, and their bytes to `fill`. */
  set(offset: number, length: number, state: State, fill = 0): this {
    for (let at = offset; at < offset + length; at += blockSize) this.#states.set(at / blockSize, state);
    this.#bytes.fill(fill, offset, offset + length);
    return this;
  }

  tryMap(offset: number, limit: number): Mapping | undefined {
    return this.#waits ? undefined : this.#map(offset, limit);
  }

  async map(offset: number, limit: number): Promise<Mapping> {
    return this.#map(offset, limit);
  }

  #map(offset: number, limit: number): Mapping {
    const state = this.#stateAt(offset);
    let end = offset;
    while (end < offset + limit && this.#stateAt(end) === state)
      end = (Math.floor(end / blockSize) + 1) * blockSize;
    const length = Math.min(end - offset, limit);
    if (state === 'raw') return { kind: 'raw', device: this.#file, at: offset, sparse: false, length };
    if (state === 'zero' || state === 'reserved') {
      return { kind: 'zero', at: state === 'zero' ? undefined : offset, length };
    }
    return { kind: state, length };
  }

  #stateAt(offset: number): State {
    return this.#states.get(Math.floor(offset / blockSize)) ?? 'below';
  }

  readonly #file: BlockSource = {
    size: Number.MAX_SAFE_INTEGER,
    read: async (into, offset) => this.#copyOut(into, offset),
    tryRead: (into, offset) => {
      if (!this.#waits) this.#copyOut(into, offset);
      return !this.#waits;
    },
    extentAt: (offset, limit) => Promise.resolve(dataExtent(offset, limit)),
    tryExtentAt: dataExtent,
    placeAt: async (offset, limit) => this.place?.(offset, limit),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };

  #copyOut(into: Uint8Array, offset: number): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  async readEncoded(into: Uint8Array, offset: number): Promise<void> {
    this.#copyOut(into, offset);
  }

  async write(from: Uint8Array, offset: number, below: BlockSource): Promise<void> {
    this.changed = this.flushed + 1;
    const start = Math.floor(offset / blockSize) * blockSize;
    const end = Math.min(Math.ceil((offset + from.length) / blockSize) * blockSize, this.size);
    for (let at = start; at < end; at += blockSize) {
      const block = this.#bytes.subarray(at, Math.min(at + blockSize, this.size));
      if (this.#stateAt(at) === 'below') await below.read(block, at);
      this.#states.set(at / blockSize, 'raw');
    }
    this.#bytes.set(from, offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.changed = this.flushed + 1;
    this.set(offset, length, 'zero');
  }

  async discard(offset: number, length: number): Promise<void> {
    this.set(offset, length, 'zero');
  }

  async flush(): Promise<void> {
    this.flushed++;
  }

  async empty(): Promise<void> {
    this.#states.clear();
  }

  async resize(size: number, below: BlockSource): Promise<void> {
    for (let at = this.size; at < size; at += blockSize) {
      const { kind } = await below.extentAt(at, blockSize);
      if (kind !== 'hole') this.#states.set(at / blockSize, 'zero');
    }
    const bytes = new Uint8Array(size);
    bytes.set(this.#bytes.subarray(0, size));
    this.#bytes = bytes;
    this.size = size;
  }

  async changeBacking(reference: BackingReference | undefined): Promise<void> {
    if (this.changed > this.flushed) throw new Error('the backing file changes before the data is durable');
    this.backing = reference;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disposed = true;
  }
}

function dataExtent(offset: number, limit: number): Extent {
  return { offset, length: limit, kind: 'data', depth: 1 };
}

/** A format whose images are looked up by the path of the file: what opening tests need of a format. */
export function blockFormat(
  layers: ReadonlyMap<string, BlockLayer>,
  options: { name?: string; magic?: number } = {},
): ImageFormat {
  const find = async (file: HostSource): Promise<BlockLayer> => {
    const layer = layers.get(file.path ?? '');
    if (layer === undefined) throw new DiskError('corrupt', 'not an image of blocks');
    return layer;
  };
  return {
    name: options.name ?? 'blocks',
    exclusive: true,
    matches: (head) => head[0] === (options.magic ?? 0xbb),
    openSource: find,
    open: find,
  };
}
