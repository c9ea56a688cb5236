/**
 * Opens the file in which an image keeps its guest data, as the image names it and as the gate allows.
 *
 * Its name is as little trusted as that of a backing file. Its format is raw and is never guessed. It is locked
 * as QEMU locks it: others may write guest data beside us, and the image's own locks keep them from that.
 */
import { DiskError, type HostSource } from '@strata/block';
import type { FileReference, OpenGate } from './gate.ts';
import type { FileUse, Place, Places } from './places.ts';
import { printable } from './reference.ts';

/** How to open it. */
export interface DataFileOptions {
  readonly gate: OpenGate;
  readonly places: Places;
  readonly share?: boolean;
}

/** Whose data file it is. */
export interface DataFileOwner {
  /** The image's own path. */
  readonly path: string;
  /** What the caller names in place of what the image says; the gate is not asked about it. */
  readonly named: string | undefined;
}

/** The data file of one image, opened when the image asks for it. */
export class DataFile {
  readonly #from: string;
  readonly #named: string | undefined;
  readonly #access: 'read' | 'write';
  readonly #options: DataFileOptions;
  readonly #seen: Set<string>;
  #place: Place<HostSource> | undefined;

  /** @param seen the identities of the files of the chain */
  constructor(owner: DataFileOwner, access: 'read' | 'write', options: DataFileOptions, seen: Set<string>) {
    this.#from = owner.path;
    this.#named = owner.named;
    this.#access = access;
    this.#options = options;
    this.#seen = seen;
  }

  /** The opened file, which the caller closes; undefined if none was asked for. */
  get host(): HostSource | undefined {
    return this.#place?.host;
  }

  /** @throws {DiskError} denied, not-found, busy, and what opening can meet; `context.path` is the file's */
  async open(name: string): Promise<HostSource> {
    const { gate, places, share = false } = this.#options;
    const access = this.#access;
    const reference: FileReference = { name, format: 'raw', use: 'data' };
    const path = this.#named ?? (await gate.resolve(reference, this.#from));
    const place = access === 'write' ? await places.openFile(path) : await places.openSource(path);
    try {
      if (place.realPath !== undefined && this.#named === undefined)
        await gate.admit(place.realPath, reference, this.#from);
      if (place.identity !== undefined) {
        if (this.#seen.has(place.identity))
          throw new DiskError('corrupt', `Data file '${printable(path)}' is in the chain already`, { path });
        this.#seen.add(place.identity);
      }
      await place.lock({ access, exclusive: false, share, isData: true });
      this.#place = place;
    } catch (error) {
      await Promise.allSettled([place.host[Symbol.asyncDispose]()]);
      throw error;
    }
    return place.host;
  }

  /** Goes over to the locks for another use. Without a file it does nothing. @throws {DiskError} busy */
  async relock(use: Pick<FileUse, 'access' | 'share'>): Promise<void> {
    await this.#place?.lock({ ...use, exclusive: false, isData: true });
  }
}
