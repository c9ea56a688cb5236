/**
 * A snapshot of a disk in use: a new image on top takes the writes from now on, and what was the top stays as it is.
 *
 * Writes in flight end on the old top, later ones go to the new one. The old top is durable before that, so that what
 * the new image leaves to it survives whatever the new one's flush survives. Then it is closed for writing, which
 * stores its bitmaps: they stay with it, and end with the moment of the snapshot.
 */
import { DiskError } from '@strata/block';
import { toRead } from './image-use.ts';
import type { LiveDisk, LiveNode } from './live-disk.ts';

/** A snapshot that was made, and can be left undone while the disk is still paused. */
export interface PreparedSnapshot {
  /**
   * Closes the old top for writing. Resolves to what went wrong in that, which loses nothing of the guest's: bitmaps
   * that could not be stored are known to be unknown.
   */
  commit(): Promise<unknown>;
  /** Takes the overlay away again; it is the caller's. */
  drop(): void;
}

/**
 * Puts `overlay`, whose backing file is the disk's top, over the disk, which is paused. It stays so until the snapshot has
 * been committed or dropped.
 *
 * @throws {DiskError} busy; read-only; invalid for an overlay of another size; and what flushing throws: nothing has
 *   changed then
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
  disk.exchange([overlay, ...disk.nodes]);
  return {
    commit: async () => {
      if (old.writable === undefined) return undefined;
      const { image, failure } = await toRead(old.writable);
      const read = { name: old.name, image, writable: undefined };
      disk.exchange(disk.nodes.map((node) => (node === old ? read : node)));
      return failure;
    },
    drop: () => disk.exchange(disk.nodes.filter((node) => node !== overlay)),
  };
}

/** Makes a snapshot at once. If it is refused, the disk is as it was and `overlay` the caller's. @throws {DiskError} as `prepareSnapshot` */
export function snapshot(disk: LiveDisk, overlay: LiveNode): Promise<unknown> {
  return disk.paused(async () => (await prepareSnapshot(disk, overlay)).commit());
}
