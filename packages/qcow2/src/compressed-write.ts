/**
 * Compressed guest writes: whole clusters, encoded side by side and packed in the order of the calls.
 *
 * A cluster that does not become shorter is written plain. Encoding comes first and needs no place; then, in
 * its turn, a call finds or makes the L2 tables it needs and places its clusters; then everything is written,
 * neighbours together, and only what is written is linked. As with plain writes, the barrier makes data and
 * refcounts durable before the L2 entries, and a place whose write failed is given back and never linked.
 *
 * What a cluster held before is let go of. QEMU refuses to compress a cluster that is allocated already.
 *
 * Spec: qcow2.txt, "Cluster mapping", Compressed Clusters Descriptor.
 */
import { type BlockSource, type CompressOptions, DiskError } from '@strata/block';
import { writePiece } from './copy-up.ts';
import { encodeCompressedHigh, encodeLow } from './entries.ts';
import { Encryption } from './format.ts';
import { type Image, STREAM_SCRATCH_BYTES } from './image.ts';
import { readL2Entry, storeL2Entry } from './l2-entry.ts';
import type { PackedBytes } from './packing.ts';
import { type Piece, planWrite, soundEntry } from './pieces.ts';
import { allOf } from './settle.ts';
import { linkPiece } from './write.ts';

/** A cluster with a place for its stream, or a run of clusters that are written plain. */
type Placed =
  | {
      readonly kind: 'stream';
      readonly cluster: number;
      readonly bytes: Uint8Array;
      readonly place: PackedBytes;
    }
  | { readonly kind: 'piece'; readonly piece: Piece };

/**
 * Writes `from`, whole clusters but for the end of the disk, compressed.
 *
 * @throws {DiskError} invalid if it is not whole clusters; corrupt, no-space, io; not-supported
 */
export function writeCompressed(
  image: Image,
  from: Uint8Array,
  offset: number,
  below: BlockSource,
  { level }: CompressOptions,
): Promise<void> {
  const write = async (): Promise<void> => {
    const turn = image.turns.take();
    try {
      if (image.geometry.externalData) throw new DiskError('not-supported', 'Operation not supported');
      if (image.header.cryptMethod !== Encryption.none)
        throw new DiskError('not-supported', 'Compression and encryption not supported at the same time');
      const { offset: start, length } = image.clustersAround(offset, from.length);
      const endsWhole = length === from.length || offset + from.length === image.size;
      const isWhole = start === offset && endsWhole;
      if (!isWhole) throw new DiskError('invalid', 'only whole clusters can be written compressed');
      const hold = await image.ranges.acquire(offset, length);
      await image.holding(hold, async () => {
        await withRoom(image, length, async (room) => {
          const streams = await encode(image, from, room, level);
          await turn.ready;
          const placed: Placed[] = [];
          try {
            await placeAll(image, offset, from.length, streams, placed);
          } catch (error) {
            await release(image, placed);
            throw error;
          }
          turn.pass();
          await writeAndLink(image, placed, from, offset, below);
        });
      });
    } finally {
      turn.pass();
    }
  };
  return image.run(write);
}

/** Runs `use` with room for the streams of `length` bytes of clusters. */
function withRoom(image: Image, length: number, use: (room: Uint8Array) => Promise<void>): Promise<void> {
  return length <= STREAM_SCRATCH_BYTES ? image.streamScratch.with(use) : use(new Uint8Array(length));
}

/** The stream of each cluster, inside `room`; undefined for those that are not worth it. */
async function encode(
  image: Image,
  from: Uint8Array,
  room: Uint8Array,
  level: number | undefined,
): Promise<readonly (Uint8Array | undefined)[]> {
  const { clusterSize } = image.geometry;
  const lengths: Promise<number>[] = [];
  for (let at = 0; at < from.length; at += clusterSize) {
    let cluster = from.subarray(at, at + clusterSize);
    if (cluster.length < clusterSize) {
      cluster = new Uint8Array(clusterSize);
      cluster.set(from.subarray(at));
    }
    lengths.push(image.codec.encode(cluster, room.subarray(at, at + clusterSize), level));
  }
  await allOf(lengths);
  return (await Promise.all(lengths)).map((length, index) => {
    const at = index * clusterSize;
    return length === 0 ? undefined : room.subarray(at, at + length);
  });
}

/** Adds a place for each cluster to `placed`, where they are if it rejects. */
async function placeAll(
  image: Image,
  offset: number,
  length: number,
  streams: readonly (Uint8Array | undefined)[],
  placed: Placed[],
): Promise<void> {
  const { clusterSize, l2Entries } = image.geometry;
  const first = offset / clusterSize;
  for (let index = 0; index < streams.length; ) {
    const bytes = streams[index];
    const cluster = first + index;
    if (bytes === undefined) {
      let end = index + 1;
      while (end < streams.length && streams[end] === undefined) end++;
      const pieces: Piece[] = [];
      const to = Math.min(offset + length, (first + end) * clusterSize);
      await planWrite(image, cluster * clusterSize, to, pieces).finally(() => {
        placed.push(...pieces.map((piece) => ({ kind: 'piece', piece }) as const));
      });
      index = end;
    } else {
      const l1Index = Math.floor(cluster / l2Entries);
      const table = image.links.peek(l1Index);
      if (table === undefined) {
        await image.links.make(l1Index);
        continue;
      }
      soundEntry(image, table, cluster - l1Index * l2Entries);
      const place = image.packer.tryPlace(bytes.length) ?? (await image.packer.place(bytes.length));
      placed.push({ kind: 'stream', cluster, bytes, place });
      index++;
    }
  }
}

async function writeAndLink(
  image: Image,
  placed: readonly Placed[],
  from: Uint8Array,
  offset: number,
  below: BlockSource,
): Promise<void> {
  let linked = 0;
  try {
    const writes = neighbours(placed).map((group) => writeStreams(image, group));
    for (const each of placed)
      if (each.kind === 'piece') writes.push(writePiece(image, each.piece, from, offset, below));
    await allOf(writes);
    for (; linked < placed.length; linked++) {
      const each = placed[linked] as Placed;
      if (each.kind === 'piece') await linkPiece(image, each.piece, from.length, offset);
      else await linkStream(image, each.cluster, each.place);
    }
  } catch (error) {
    await release(image, placed.slice(linked));
    throw error;
  }
}

type Stream = Placed & { readonly kind: 'stream' };

/** Streams that follow each other in the file. */
function neighbours(placed: readonly Placed[]): Stream[][] {
  const groups: Stream[][] = [];
  let end = -1;
  for (const each of placed) {
    if (each.kind === 'piece') continue;
    const { at, length } = each.place;
    if (at === end) groups.at(-1)?.push(each);
    else groups.push([each]);
    end = at + length;
  }
  return groups;
}

/** Writes streams that follow each other as one: in their room each is moved down to the one before it. */
function writeStreams(image: Image, group: readonly Stream[]): Promise<void> {
  const [first] = group as readonly [Stream, ...Stream[]];
  const length = group.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const all = new Uint8Array(first.bytes.buffer, first.bytes.byteOffset, length);
  let filled = 0;
  for (const { bytes } of group) {
    if (filled > 0) all.set(bytes, filled);
    filled += bytes.length;
  }
  return image.file.write(all, first.place.at);
}

/** Makes the L2 entry of a cluster lead to its stream. */
async function linkStream(image: Image, cluster: number, { at, length }: PackedBytes): Promise<void> {
  const { geometry, links, l2 } = image;
  const { l2Entries, l2EntrySize } = geometry;
  const l1Index = Math.floor(cluster / l2Entries);
  let table = links.peek(l1Index);
  while (table === undefined) {
    await links.make(l1Index);
    table = links.peek(l1Index);
  }
  const index = cluster - l1Index * l2Entries;
  const old = readL2Entry(geometry, table.view, index);
  const high = encodeCompressedHigh(geometry, at, length);
  storeL2Entry(geometry, table.view, index, { high, low: encodeLow(at), zeros: 0, allocated: 0 });
  l2.changed(table, index * l2EntrySize, (index + 1) * l2EntrySize);
  links.drop(old.high, old.low);
}

/** Gives back what was placed and not linked. What cannot be given back leaks, which harms nobody. */
async function release(image: Image, placed: readonly Placed[]): Promise<void> {
  await Promise.allSettled(
    placed.map(async (each) => {
      if (each.kind === 'stream') await image.packer.release(each.place);
      else if (each.piece.state === 'new') await image.space.release(each.piece);
    }),
  );
}
