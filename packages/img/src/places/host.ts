/**
 * Hosts that differ from the one they stand for in a call or two: how they are closed, whether they flush, what they take.
 *
 * A layer holds on to its host, so what is changed must be an object of its own; `size` moves, and is asked anew.
 */
import type { HostFile, HostSource } from '@strata/block';

/** Calls that are made instead of the host's own. */
export type HostChanges = Partial<Pick<HostFile, 'flush' | 'allocated'> & AsyncDisposable>;

/** `host` with some calls exchanged. */
export function changedSource(host: HostSource, changes: HostChanges): HostSource {
  return {
    get size() {
      return host.size;
    },
    path: host.path,
    allocated: () => changes.allocated?.() ?? host.allocated(),
    stamp: async () => host.stamp?.(),
    read: (into, offset) => host.read(into, offset),
    tryRead: (into, offset) => host.tryRead(into, offset),
    extentAt: (offset, limit) => host.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => host.tryExtentAt(offset, limit),
    tryDirect: (offset, length) => host.tryDirect?.(offset, length),
    placeAt: async (offset, limit) => host.placeAt?.(offset, limit),
    [Symbol.asyncDispose]: () => changes[Symbol.asyncDispose]?.() ?? host[Symbol.asyncDispose](),
  };
}

/** The same for one that can be written. */
export function changedFile(host: HostFile, changes: HostChanges): HostFile {
  const source = changedSource(host, changes);
  return {
    ...source,
    get size() {
      return host.size;
    },
    caps: host.caps,
    write: (from, offset) => host.write(from, offset),
    copyFrom: async (from, offset) => (await host.copyFrom?.(from, offset)) ?? false,
    zero: (offset, length, how) => host.zero(offset, length, how),
    discard: (offset, length) => host.discard(offset, length),
    flush: () => changes.flush?.() ?? host.flush(),
    truncate: (size) => host.truncate(size),
    seal: async () => host.seal?.(),
  };
}
