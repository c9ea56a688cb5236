/**
 * A chain of layers as one disk: `ChainSource` for reading, `ChainDevice` for writing to its top.
 *
 * Reads fetch what `resolve` found; a request that several layers answer is fetched from all of them at
 * once. Writes go to the top layer, which is handed the rest of the chain as `below`, padded with zeros to
 * the top's own size. The layers are the caller's: disposing of a chain disposes of nothing else.
 */
import type {
  BlockDevice,
  BlockSource,
  Capabilities,
  DirectSend,
  Extent,
  HostRange,
  Layer,
  LayerSource,
  ZeroOptions,
} from '@strata/block';
import { extentOf, type Resolution, resolve, tryResolve } from './resolve.ts';

/** Layers, top first, read as one disk. */
export class ChainSource implements BlockSource {
  readonly size: number;
  readonly #layers: readonly LayerSource[];

  /** @param size what the disk shows; past the end of the layers it reads as zeros */
  constructor(layers: readonly LayerSource[], size: number) {
    this.#layers = layers;
    this.size = size;
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    const found = tryResolve(this.#layers, offset, into.length);
    if (found !== undefined && found.mapping.length === into.length) return this.#fetch(found, into, offset);
    return this.#readPieces(into, offset);
  }

  async #readPieces(into: Uint8Array, offset: number): Promise<void> {
    const found: Resolution[] = [];
    for (let done = 0; done < into.length; ) {
      const limit = into.length - done;
      const next =
        tryResolve(this.#layers, offset + done, limit) ?? (await resolve(this.#layers, offset + done, limit));
      found.push(next);
      done += next.mapping.length;
    }
    let done = 0;
    const pieces = found.map((piece) => {
      const at = done;
      done += piece.mapping.length;
      return this.#fetch(piece, into.subarray(at, done), offset + at);
    });
    // All of them are waited for: after a rejection nothing may write into the caller's buffer any more.
    const failed = (await Promise.allSettled(pieces)).find((piece) => piece.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  #fetch({ layer, mapping }: Resolution, into: Uint8Array, offset: number): Promise<void> {
    if (mapping.kind === 'raw') return mapping.device.read(into, mapping.at);
    if (mapping.kind === 'encoded') return (this.#layers[layer] as LayerSource).readEncoded(into, offset);
    into.fill(0);
    return Promise.resolve();
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    for (let done = 0; done < into.length; ) {
      const found = tryResolve(this.#layers, offset + done, into.length - done);
      if (found === undefined) return false;
      const { mapping } = found;
      const whole = done === 0 && mapping.length === into.length;
      const piece = whole ? into : into.subarray(done, done + mapping.length);
      if (mapping.kind === 'encoded') return false;
      if (mapping.kind !== 'raw') piece.fill(0);
      else if (!mapping.device.tryRead(piece, mapping.at)) return false;
      done += mapping.length;
    }
    return true;
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    const found = tryResolve(this.#layers, offset, limit);
    if (found === undefined) return undefined;
    const { layer, mapping } = found;
    if (mapping.kind !== 'raw' || !mapping.sparse) return extentOf(offset, found);
    const inFile = mapping.device.tryExtentAt(mapping.at, mapping.length);
    return inFile && placed(inFile, offset, layer);
  }

  /** Out of raw images alone: in others a place may come to hold other bytes of the disk, while a socket still sends it. */
  tryDirect(offset: number, length: number): DirectSend | undefined {
    const found = tryResolve(this.#layers, offset, length);
    if (found?.mapping.kind !== 'raw' || found.mapping.length < length) return undefined;
    if (this.#layers[found.layer]?.format !== 'raw') return undefined;
    const { device, at } = found.mapping;
    const send = device.tryDirect?.(at, length);
    if (send === undefined || at === offset) return send;
    return (socket, from, most) => send(socket, from - offset + at, most);
  }

  async extentAt(offset: number, limit: number): Promise<Extent> {
    const found = await this.resolve(offset, limit);
    const { layer, mapping } = found;
    const known = extentOf(offset, found);
    if (known !== undefined || mapping.kind !== 'raw') return known as Extent;
    return placed(await mapping.device.extentAt(mapping.at, mapping.length), offset, layer);
  }

  /** Who decides over `offset` and what follows it: what `extentAt` tells, with the place in the file. */
  async resolve(offset: number, limit: number): Promise<Resolution> {
    return tryResolve(this.#layers, offset, limit) ?? (await resolve(this.#layers, offset, limit));
  }

  async placeAt(offset: number, limit: number): Promise<HostRange | undefined> {
    const { mapping } = await this.resolve(offset, limit);
    return mapping.kind === 'raw' ? mapping.device.placeAt?.(mapping.at, mapping.length) : undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** What a file says of its own bytes, as an extent of the disk: a hole in a file that the layer owns is a zero of that layer. */
function placed(inFile: Extent, offset: number, layer: number): Extent {
  const kind = inFile.kind === 'hole' ? 'zero' : inFile.kind;
  return { offset, length: inFile.length, kind, depth: layer + 1 };
}

/** A chain whose top can be written. */
export class ChainDevice extends ChainSource implements BlockDevice {
  readonly caps: Capabilities;
  readonly #top: Layer;
  readonly #below: BlockSource;

  constructor(top: Layer, rest: readonly LayerSource[]) {
    super([top, ...rest], top.size);
    this.caps = top.caps;
    this.#top = top;
    this.#below = new ChainSource(rest, top.size);
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    return this.#top.write(from, offset, this.#below);
  }

  async copyFrom(from: HostRange, offset: number): Promise<boolean> {
    return (await this.#top.copyFrom?.(from, offset, this.#below)) ?? false;
  }

  zero(offset: number, length: number, how?: ZeroOptions): Promise<void> {
    return this.#top.zero(offset, length, this.#below, how);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#top.discard(offset, length);
  }

  flush(): Promise<void> {
    return this.#top.flush();
  }
}
