/** Disks one behind the other as one disk. */
import { checkedSource } from '../checked.ts';
import type { BlockSource, Extent } from '../device.ts';

interface Part {
  readonly source: BlockSource;
  readonly at: number;
}

/** `sources` in their order as one disk. Disposing of it leaves them open. */
export function joinedSources(sources: readonly BlockSource[]): BlockSource {
  const parts: Part[] = [];
  let size = 0;
  for (const source of sources) {
    if (source.size > 0) parts.push({ source, at: size });
    size += source.size;
  }

  const partAt = (offset: number): Part => parts.findLast(({ at }) => at <= offset) as Part;
  /** What of a range lies in which part. */
  const pieces = (into: Uint8Array, offset: number) => {
    const found: { readonly part: Part; readonly into: Uint8Array; readonly at: number }[] = [];
    for (let done = 0; done < into.length; ) {
      const part = partAt(offset + done);
      const at = offset + done - part.at;
      const length = Math.min(part.source.size - at, into.length - done);
      found.push({ part, into: into.subarray(done, done + length), at });
      done += length;
    }
    return found;
  };
  const inPart = <T>(offset: number, limit: number, ask: (part: Part, at: number, limit: number) => T): T => {
    const part = partAt(offset);
    const at = offset - part.at;
    return ask(part, at, Math.min(limit, part.source.size - at));
  };
  const moved = (extent: Extent, { at }: Part): Extent => ({ ...extent, offset: extent.offset + at });

  return checkedSource({
    size,
    read: async (into, offset) => {
      const reads = pieces(into, offset).map((piece) => piece.part.source.read(piece.into, piece.at));
      // All are waited for: after a failure nothing may write into the caller's buffer any more.
      for (const read of await Promise.allSettled(reads)) if (read.status === 'rejected') throw read.reason;
    },
    tryRead: (into, offset) =>
      pieces(into, offset).every((piece) => piece.part.source.tryRead(piece.into, piece.at)),
    extentAt: (offset, limit) =>
      inPart(offset, limit, async (part, at, most) => moved(await part.source.extentAt(at, most), part)),
    tryExtentAt: (offset, limit) =>
      inPart(offset, limit, (part, at, most) => {
        const extent = part.source.tryExtentAt(at, most);
        return extent && moved(extent, part);
      }),
    placeAt: (offset, limit) =>
      inPart(offset, limit, async (part, at, most) => part.source.placeAt?.(at, most)),
    [Symbol.asyncDispose]: async () => {},
  });
}
