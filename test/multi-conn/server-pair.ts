/**
 * Two servers over one disk, each with a cache of its own in front of it: who connects to both is lied to about
 * MULTI_CONN.
 */
import { type BlockDevice, checkedDevice, MemoryDevice } from '@strata/block';
import { listen } from '@strata/nbd';
import type { TemporaryFolder } from '@strata/testkit';
import { hotSectors, sector } from './hot-sectors.ts';

/** What a private cache does wrong. */
export type Fault =
  /** What was read once is answered from the cache, whatever others have written since. */
  | 'stale reads'
  /** What is written is kept back until a flush. */
  | 'late writes'
  /** Nothing: there is no cache. */
  | 'no fault';

/** Starts them; `uris` has one of each. */
export async function serverPair(
  folder: TemporaryFolder,
  fault: Fault,
): Promise<AsyncDisposable & { readonly uris: readonly string[] }> {
  const disk = new MemoryDevice(hotSectors * sector);
  const servers = await Promise.all(
    ['a', 'b'].map((name) => {
      const device = behaviours[fault](disk);
      return listen({ exports: [{ name: '', device }], address: { path: folder.file(name) } });
    }),
  );
  return {
    uris: ['a', 'b'].map((name) => `nbd+unix:///?socket=${folder.file(name)}`),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(servers.map((server) => server.close({ graceMs: 0 })));
    },
  };
}

const behaviours: Readonly<Record<Fault, (disk: BlockDevice) => BlockDevice>> = {
  'stale reads': staleReads,
  'late writes': lateWrites,
  'no fault': (disk) => changed(disk, {}),
};

/** `Buffer.slice` would not copy. */
const copyOf = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes);

function staleReads(disk: BlockDevice): BlockDevice {
  const cache = new Map<number, Uint8Array>();
  return changed(disk, {
    read: async (into, offset) => {
      for (let at = 0; at < into.length; at += sector) {
        const piece = into.subarray(at, at + sector);
        const known = cache.get(offset + at);
        if (known) piece.set(known);
        else await disk.read(piece, offset + at);
        cache.set(offset + at, copyOf(piece));
      }
    },
    write: async (from, offset) => {
      for (let at = 0; at < from.length; at += sector)
        cache.set(offset + at, copyOf(from.subarray(at, at + sector)));
      await disk.write(from, offset);
    },
  });
}

function lateWrites(disk: BlockDevice): BlockDevice {
  const late = new Map<number, Uint8Array>();
  return changed(disk, {
    read: async (into, offset) => {
      await disk.read(into, offset);
      for (let at = 0; at < into.length; at += sector) {
        const known = late.get(offset + at);
        if (known) into.set(known, at);
      }
    },
    write: async (from, offset) => {
      for (let at = 0; at < from.length; at += sector)
        late.set(offset + at, copyOf(from.subarray(at, at + sector)));
    },
    flush: async () => {
      const all = [...late];
      late.clear();
      for (const [offset, bytes] of all) await disk.write(bytes, offset);
    },
  });
}

function changed(disk: BlockDevice, calls: Partial<BlockDevice>): BlockDevice {
  return checkedDevice({
    size: disk.size,
    caps: disk.caps,
    read: (into, offset) => disk.read(into, offset),
    tryRead: () => false,
    extentAt: (offset, limit) => disk.extentAt(offset, limit),
    tryExtentAt: () => undefined,
    write: (from, offset) => disk.write(from, offset),
    zero: (offset, length, how) => disk.zero(offset, length, how),
    discard: (offset, length) => disk.discard(offset, length),
    flush: () => disk.flush(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
    ...calls,
  });
}
