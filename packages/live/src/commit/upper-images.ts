/** The images of a disk that are to go down into a base: what they hold, and copying it there. */
import { type BlockDevice, type Extent, inStep, readsAsZeros } from '@strata/block';
import { ChainDevice, ChainSource, type WritableImage } from '@strata/chain';
import { Copier } from '../backup/copier.ts';
import type { LiveNode } from '../live-disk.ts';

/** Images above a base that is open for writing. */
export class UpperImages {
  /** What they hold, by themselves; depth 0: nothing. */
  readonly source: ChainSource;
  /** The base with what is under it. */
  readonly target: BlockDevice;
  readonly #base: WritableImage;
  readonly #below: readonly LiveNode[];
  readonly #copier: Copier;

  /**
   * @param upper the images, top first
   * @param below what is under the base
   */
  constructor(upper: readonly LiveNode[], base: WritableImage, below: readonly LiveNode[]) {
    const layers = upper.map(({ image }) => image.layer);
    const size = layers[0]?.size ?? 0;
    this.source = new ChainSource(layers, size);
    this.#base = base;
    this.#below = below;
    this.target = new ChainDevice(base.layer, this.#layersBelow);
    this.#copier = new Copier(
      () => this.source,
      () => this.target,
    );
  }

  /** Makes the base as long as the upper images, if it is shorter. @throws {DiskError} as `Layer.resize` */
  async growBase(): Promise<void> {
    const { layer } = this.#base;
    const { size } = this.source;
    if (layer.size < size) await layer.resize(size, new ChainSource(this.#layersBelow, size));
  }

  /** What is held at `offset`. @throws {DiskError} with `op` `read` */
  async extentAt(offset: number, limit: number): Promise<Extent> {
    try {
      return this.source.tryExtentAt(offset, limit) ?? (await this.source.extentAt(offset, limit));
    } catch (error) {
      throw inStep(error, 'read', offset);
    }
  }

  /** Copies what is held of a range into the base. @throws {DiskError} with `op` `read` or `write` */
  async copy(offset: number, length: number): Promise<void> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const extent = await this.extentAt(at, end - at);
      if (extent.depth !== 0) await this.#copier.copy(at, extent.length);
      at += extent.length;
    }
  }

  /**
   * A base that is longer than the images above it shows beyond their end what they hide. Zeros hide it from a disk of
   * `size` bytes from now on.
   */
  async hideTail(size: number): Promise<void> {
    const from = this.source.size;
    const end = Math.min(this.#base.layer.size, size);
    for (let at = from; at < end; ) {
      const extent = await new ChainSource([this.#base.layer, ...this.#layersBelow], end).extentAt(
        at,
        end - at,
      );
      if (!readsAsZeros(extent)) await this.target.zero(at, extent.length);
      at += extent.length;
    }
  }

  get #layersBelow() {
    return this.#below.map(({ image }) => image.layer);
  }
}
