/**
 * A temporary overlay (`serve -s`): what clients write goes into a qcow2 file that has no name, over a disk that is
 * opened for reading.
 *
 * The file is removed as soon as it is open, so that nothing is left behind however the server ends.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BlockDevice, checkedDevice, createFile, deviceWindow } from '@strata/block';
import { type Chain, ChainDevice } from '@strata/chain';
import { inSectors } from '../disk-size.ts';
import { qcow2Support } from '../formats/qcow2.ts';
import { noObjects } from '../objects/objects.ts';
import { changedFile } from '../places/host.ts';

/** A disk that can be written while the images under it stay as they are. */
export interface Overlay extends AsyncDisposable {
  readonly device: BlockDevice;
}

/**
 * Lays one over `chain`, which stays the caller's.
 * @param name of the image, for the record
 */
export async function openOverlay(name: string, { images, source }: Chain): Promise<Overlay> {
  const folder = await mkdtemp(join(tmpdir(), 'img-serve-'));
  try {
    const file = await createFile(join(folder, 'overlay.qcow2'), { exclusive: true });
    // Nothing in it outlives the process, so nothing has to reach the disk.
    const host = changedFile(file, { flush: () => Promise.resolve() });
    try {
      const size = inSectors(source.size);
      const backing = { name, format: images[0]?.format.name };
      const values = new Map([['size', size]]);
      await qcow2Support.create(host, { size, backing, values, objects: noObjects });
      const layer = await qcow2Support.format.open(host);
      const disk = checkedDevice(
        new ChainDevice(
          layer,
          images.map((image) => image.layer),
        ),
      );
      return {
        device: size === source.size ? disk : deviceWindow(disk, 0, source.size),
        [Symbol.asyncDispose]: async () => {
          await layer[Symbol.asyncDispose]();
          await file[Symbol.asyncDispose]();
        },
      };
    } catch (error) {
      await file[Symbol.asyncDispose]();
      throw error;
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
