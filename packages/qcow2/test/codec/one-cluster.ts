/** Images of one compressed cluster whose stream a test makes up. */
import { writeFile } from 'node:fs/promises';
import { MemoryDevice } from '@strata/block';
import { createQcow2 } from '../../src/create.ts';
import { encodeCompressedHigh, encodeHigh, encodeLow, setEntry, tableOf } from '../../src/entries.ts';
import { type Geometry, geometryOf } from '../../src/geometry.ts';
import { readHeader } from '../../src/header.ts';

/** What such an image is made of. */
export interface OneCluster {
  readonly compressionType: 'zlib' | 'zstd';
  readonly clusterSize: number;
  readonly stream: Uint8Array;
  /** Where in its host cluster the stream begins; 0 if not given. */
  readonly within?: number;
}

/** The image in memory. Its refcounts do not count the cluster and the L2 table: readers do not ask. */
async function oneCluster(made: OneCluster): Promise<MemoryDevice> {
  const { compressionType, clusterSize, stream, within = 0 } = made;
  const memory = new MemoryDevice();
  await createQcow2(memory, { size: clusterSize, clusterSize, compressionType });
  const header = await readHeader(memory);
  const geometry: Geometry = geometryOf(header);
  const l2At = Math.ceil(memory.size / clusterSize) * clusterSize;
  const at = l2At + clusterSize + within;
  const l1 = new Uint8Array(8);
  setEntry(tableOf(l1), 0, encodeHigh(l2At, true), encodeLow(l2At));
  const l2 = new Uint8Array(clusterSize);
  setEntry(tableOf(l2), 0, encodeCompressedHigh(geometry, at, stream.length), encodeLow(at));
  await memory.write(l1, header.l1At);
  await memory.write(l2, l2At);
  await memory.write(stream, at);
  await memory.truncate(Math.ceil(memory.size / clusterSize) * clusterSize);
  return memory;
}

/** The same as a file. */
export async function oneClusterFile(path: string, made: OneCluster): Promise<MemoryDevice> {
  const memory = await oneCluster(made);
  await writeFile(path, memory.bytes());
  return memory;
}
