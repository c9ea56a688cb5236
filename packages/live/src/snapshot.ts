/**
 * A snapshot of a disk in use: a new image on top takes the writes from now on, and what was the top stays as it is.
 *
 * Writes in flight end on the old top, later ones go to the new one. The old top is durable before that, so that what
 * the new image leaves to it survives whatever the new one's flush survives. Then it is closed for writing, which
 * stores its bitmaps: they stay with it, and end with the moment of the snapshot.
 */
import { DiskError } from '@strata/block';
import type { LiveDisk, LiveNode } from './live-disk.ts';

/** A snapshot that can still be left undone. */
export interface PreparedSnapshot {
  /**
   * Makes it. Resolves to what went wrong while the old top was closed for writing, which loses nothing of the guest's:
   * bitmaps that could not be stored are known to be unknown.
   */
  commit(): Promise<unknown>;
}

/**
 * Prepares to put `overlay`, whose backing file is the disk's top, over the disk. The disk is paused, and stays so until
 * the snapshot has been made or dropped. Until then `overlay` is the caller's.
 *
 * @throws {DiskError} busy; read-only; invalid for an overlay of another size; and what flushing throws
 */
export async function prepareSnapshot(disk: LiveDisk, overlay: LiveNode): Promise<PreparedSnapshot> {
  disk.checkFree();
  const old = disk.top;
  const { size } = overlay.image.layer;
  if (overlay.writable === undefined)
    throw new DiskError('read-only', 'the overlay is open for reading only');
  if (size !== disk.size) {
    throw new DiskError('invalid', `the overlay has ${size} bytes, and the disk has ${disk.size}`);
  }
  await old.writable?.layer.flush();
  return {
    commit: async () => {
      const rest = disk.nodes.slice(1);
      if (old.writable === undefined) {
        disk.exchange([overlay, old, ...rest]);
        return undefined;
      }
      const { image, failure } = await old.writable.toRead();
      disk.exchange([overlay, { name: old.name, image, writable: undefined }, ...rest]);
      return failure;
    },
  };
}

/** Makes a snapshot at once. If it is refused, the disk is as it was and `overlay` the caller's. @throws {DiskError} as `prepareSnapshot` */
export function snapshot(disk: LiveDisk, overlay: LiveNode): Promise<unknown> {
  return disk.paused(async () => (await prepareSnapshot(disk, overlay)).commit());
}
