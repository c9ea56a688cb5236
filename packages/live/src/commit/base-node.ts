/** The base of a commit: a node of a disk that is open for writing for that time. */
import { closeImage, type WritableImage } from '@strata/chain';
import { toRead, toWrite } from '../image-use.ts';
import type { LiveDisk, LiveNode } from '../live-disk.ts';

/** A node that was opened for writing. */
export interface OpenBase {
  readonly name: string;
  readonly image: WritableImage;
}

/** Opens the node number `index` of a paused disk for writing. @throws {DiskError} as opening does: nothing has changed then */
export async function openBase(disk: LiveDisk, index: number): Promise<OpenBase> {
  const { name, image } = disk.nodes[index] as LiveNode;
  const writable = await toWrite(image);
  replace(disk, { name, image: writable, writable });
  // It was open for reading, and has nothing that could be lost.
  await closeImage(image).catch(() => undefined);
  return { name, image: writable };
}

/**
 * Closes it for writing, in a paused disk of which it is a node.
 * @throws {DiskError} if it cannot be opened for reading any more
 */
export async function closeBase(disk: LiveDisk, { name, image }: OpenBase): Promise<void> {
  const read = await toRead(image);
  replace(disk, { name, image: read.image, writable: undefined });
  if (read.failure !== undefined) throw read.failure;
}

function replace(disk: LiveDisk, node: LiveNode): void {
  disk.exchange(disk.nodes.map((each) => (each.name === node.name ? node : each)));
}
