/** Disks in use for tests: chains of small images in memory. */
import { openWritableChain } from '@strata/chain';
import { randomFrom } from '@strata/testkit';
import { LiveDisk, type LiveNode } from '../src/live-disk.ts';
import { NodeNames } from '../src/node-names.ts';
import { nodesOf } from '../src/nodes.ts';
import { MemoryFiles } from './memory-files.ts';

/** No multiple of a cluster. */
export const size = 64 * 4096 + 1536;
/** Of the images. */
export const clusterSize = 4096;

/** A disk with the files that it is made of. */
export interface TestDisk extends AsyncDisposable {
  readonly files: MemoryFiles;
  readonly names: NodeNames;
  readonly disk: LiveDisk;
}

/** Makes the images `names`, the first one at the bottom, each with some data; the last one is empty. */
export async function chainFiles(names: readonly string[], seed = 1): Promise<MemoryFiles> {
  const files = new MemoryFiles();
  const random = randomFrom(seed);
  for (const [index, name] of names.entries()) {
    const backing = names[index - 1];
    await files.create(name, { size, clusterSize, ...(backing !== undefined && { backing }) });
    if (index === names.length - 1) continue;
    await using chain = await openWritableChain(name, files.opening);
    for (let i = 0; i < 6; i++) {
      const length = 1 + random.upTo(20_000);
      await chain.device.write(random.bytes(length), random.upTo(size - length));
    }
  }
  return files;
}

/** Opens the image `top` as a disk in use, whose top is the node `disk`. */
export async function openDisk(files: MemoryFiles, top: string, names = new NodeNames()): Promise<TestDisk> {
  const chain = await openWritableChain(top, files.opening);
  const disk = new LiveDisk(nodesOf(chain, names, 'disk'));
  return { files, names, disk, [Symbol.asyncDispose]: () => disk[Symbol.asyncDispose]() };
}

/** A disk of the images `base`, `mid` and `top`. */
export async function newDisk(seed = 1): Promise<TestDisk> {
  return openDisk(await chainFiles(['base', 'mid', 'top'], seed), 'top');
}

/** A new image over the disk's top, opened for writing. */
export async function newOverlay({ files, names, disk }: TestDisk, name: string): Promise<LiveNode> {
  await files.create(name, { size, clusterSize, backing: disk.top.image.path });
  const { top } = await openWritableChain(name, { ...files.opening, backing: false });
  return { name: names.take(name), image: top, writable: top };
}
