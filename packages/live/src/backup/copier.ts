/** Copies ranges of a disk to another one: zeros as zeros, and not at all where nobody has anything. */
import { type BlockDevice, type BlockSource, type Extent, inStep, readsAsZeros } from '@strata/block';
import { Buffers } from './buffers.ts';

/** Bytes that are copied in one piece at most, if the cluster of the target is not larger. */
export const longestPiece = 1 << 20;

/** Copies from `source` to `target`, which are asked for at each copy: their images may have been exchanged. */
export class Copier {
  readonly #source: () => BlockSource;
  readonly #target: () => BlockDevice;
  readonly #buffers = new Buffers();
  readonly #fillsHoles: boolean;

  /**
   * @param fillsHoles zeros are written where the target has none of its own too: what is under it will change
   */
  constructor(
    source: () => BlockSource,
    target: () => BlockDevice,
    { fillsHoles = false }: { readonly fillsHoles?: boolean } = {},
  ) {
    this.#source = source;
    this.#target = target;
    this.#fillsHoles = fillsHoles;
  }

  /** @throws {DiskError} with `context.op` `read` or `write` */
  async copy(offset: number, length: number): Promise<void> {
    const source = this.#source();
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const extent = await this.#extentOf(source, at, end - at);
      if (readsAsZeros(extent)) await this.#zero(at, extent.length);
      else await this.#data(source, at, Math.min(extent.length, longestPiece));
      at += readsAsZeros(extent) ? extent.length : Math.min(extent.length, longestPiece);
    }
  }

  /** The first byte of the range that the top image of the source holds. @throws {DiskError} with `op` `read` */
  async nextInTop(offset: number, length: number): Promise<number | undefined> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const extent = await this.#extentOf(this.#source(), at, end - at);
      if (extent.depth === 1) return at;
      at += extent.length;
    }
    return undefined;
  }

  async #extentOf(source: BlockSource, at: number, limit: number): Promise<Extent> {
    try {
      return source.tryExtentAt(at, limit) ?? (await source.extentAt(at, limit));
    } catch (error) {
      throw inStep(error, 'read', at);
    }
  }

  #data(source: BlockSource, at: number, length: number): Promise<void> {
    return this.#buffers.using(length, async (buffer) => {
      try {
        if (!source.tryRead(buffer, at)) await source.read(buffer, at);
      } catch (error) {
        throw inStep(error, 'read', at);
      }
      await this.#written(at, this.#target().write(buffer, at));
    });
  }

  async #zero(at: number, length: number): Promise<void> {
    const target = this.#target();
    if (!this.#fillsHoles) {
      const there = target.tryExtentAt(at, length) ?? (await target.extentAt(at, length));
      if (there.kind === 'hole' && there.length === length) return;
    }
    await this.#written(at, target.zero(at, length));
  }

  async #written(at: number, call: Promise<void>): Promise<void> {
    try {
      await call;
    } catch (error) {
      throw inStep(error, 'write', at);
    }
  }
}
