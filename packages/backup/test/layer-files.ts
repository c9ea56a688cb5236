/** Layers in local files, as the command makes them, and sources that a test writes. */

import { dirname } from 'node:path';
import { DirtyBitmap } from '@strata/bitmap';
import { createFile, type HostFile, MemoryDevice, openFile, raw } from '@strata/block';
import { allowFolders, type OpenOptions, openChain, openWritableChain, type Places } from '@strata/chain';
import { createQcow2, qcow2Format, repairImage } from '@strata/qcow2';
import type { BackupSource } from '../src/source.ts';
import type { LayerFiles } from '../src/take.ts';

const places: Places = {
  openSource: async (name) => placeOf(await openFile(name, { access: 'read' })),
  openFile: async (name) => placeOf(await openFile(name, { access: 'write' })),
};

function placeOf<Host extends HostFile | Awaited<ReturnType<typeof openFile>>>(host: Host) {
  const { identity, path } = host as unknown as { identity: string; path: string };
  return { host, identity, realPath: path, lock: async () => undefined };
}

const optionsFor = (path: string): OpenOptions => ({
  formats: [qcow2Format, raw],
  gate: allowFolders([dirname(path)]),
  places,
  format: 'qcow2',
});

/** qcow2 files. */
export const layerFiles: LayerFiles = {
  create: async (path, { size, clusterSize, backing }) => {
    await using file = await createFile(path, { exclusive: true });
    await createQcow2(file, { size, clusterSize, ...(backing && { backing }) });
    await file.flush();
  },
  mend: async (path) => {
    await using file = await openFile(path, { access: 'write' });
    await repairImage(file, 'leaks');
  },
  openWritable: (path) => openWritableChain(path, optionsFor(path)),
  open: (path) => openChain(path, optionsFor(path)),
};

/** A disk in memory with the bitmaps of its checkpoints. */
export class TestDisk {
  readonly memory: MemoryDevice;
  readonly bitmaps = new Map<string, DirtyBitmap>();
  readonly #granularity: number;
  #recording: DirtyBitmap | undefined;
  #checkpoint: string | undefined;

  constructor(size: number, granularity = 65_536) {
    this.memory = new MemoryDevice(size);
    this.#granularity = granularity;
  }

  async write(offset: number, length: number, byte: number): Promise<void> {
    this.#recording?.set(offset, length);
    await this.memory.write(new Uint8Array(length).fill(byte), offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#recording?.set(offset, length);
    await this.memory.zero(offset, length);
  }

  checkpoint(name: string): void {
    this.#recording = new DirtyBitmap(this.memory.size, this.#granularity);
    this.#checkpoint = name;
    this.bitmaps.set(name, this.#recording);
  }

  /** The disk as it is, as a source at its newest checkpoint. */
  source(changes: Partial<BackupSource> = {}): BackupSource {
    return {
      disk: this.memory,
      name: 'disk',
      frozen: true,
      checkpoint: this.#checkpoint,
      bitmaps: [...this.bitmaps.keys()].filter((name) => name !== this.#checkpoint),
      changes: (name) => (this.bitmaps.get(name) as DirtyBitmap).ranges(),
      ...changes,
    };
  }

  /** All bytes, as they are now. */
  bytes(): Uint8Array {
    const bytes = new Uint8Array(this.memory.size);
    this.memory.tryRead(bytes, 0);
    return bytes;
  }
}

/** Names of a series of one disk. */
export const checkpointNamed = (number: number): string => `backup.${number}.0123abcd.89abcdef`;
