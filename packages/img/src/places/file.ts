/**
 * Files of the host as places for images, with the locks that QEMU's tools would take.
 */
import { realpath } from 'node:fs';
import { promisify } from 'node:util';
import { type FileSource, type HostSource, LOCKS, type LockMode, openFile } from '@strata/block';
import type { FileUse, Place, Places } from '@strata/chain';
import { changedFile, type HostChanges } from './host.ts';

/** Which locks a kind of use takes. `LOCKS` says why each is as it is. */
export type LockChoice = (use: FileUse) => LockMode;

/** Reading and writing one's own disk. */
export const useLocks: LockChoice = ({ access, exclusive, share, isData = false }) => {
  if (share) return LOCKS.forceShare;
  if (isData) return access === 'write' ? LOCKS.dataWrite : LOCKS.dataRead;
  if (exclusive) return access === 'write' ? LOCKS.formatWrite : LOCKS.formatRead;
  return access === 'write' ? LOCKS.rawWrite : LOCKS.rawRead;
};

/** Serving it to others, who were told its size. */
export const serveLocks: LockChoice = (use) => {
  if (use.share || use.exclusive || use.isData) return useLocks(use);
  return use.access === 'write' ? LOCKS.rawServeWrite : LOCKS.rawServeRead;
};

/** Copying it whole: it must not change meanwhile. */
export const copyLocks: LockChoice = ({ share }) => (share ? LOCKS.forceShare : LOCKS.formatRead);

/** Changing what it is, its size among it: nobody else may write. */
export const changeLocks: LockChoice = (use) => (use.access === 'write' ? LOCKS.formatWrite : useLocks(use));

/** Telling what it is. */
export const infoLocks: LockChoice = ({ exclusive, share }) => {
  if (share) return LOCKS.forceShare;
  return exclusive ? LOCKS.formatInfo : LOCKS.none;
};

/** No locks at all (`locking=off`). */
export const unlocked: LockChoice = () => LOCKS.none;

/** How files are used. */
export interface FileManner {
  readonly locks: LockChoice;
  /** Flushing does nothing: what is written is lost if the host fails, and is not waited for (`-t unsafe`). */
  readonly unsafe: boolean;
  /** For how long to connect anew to a server that was lost; undefined: as the name says. */
  readonly reconnectDelayMs?: number | undefined;
}

/** Files, by their paths. */
export function filePlaces({ locks, unsafe }: FileManner): Places {
  return {
    openSource: async (path) => {
      const file = await openFile(path, { access: 'read' });
      return placeOf(file, file, locks);
    },
    openFile: async (path) => {
      const file = await openFile(path, { access: 'write' });
      return placeOf(file, unsafe ? changedFile(file, neverFlushed) : file, locks);
    },
  };
}

/** Not from node:fs/promises, which takes longer to load than the call. */
const realPathOf = promisify(realpath.native);

/** What makes a host's flush do nothing. */
export const neverFlushed: HostChanges = { flush: () => Promise.resolve() };

async function placeOf<Host extends HostSource>(
  file: FileSource,
  host: Host,
  locks: LockChoice,
): Promise<Place<Host>> {
  return {
    host,
    identity: file.identity,
    realPath: await realPathOf(file.path).catch(() => undefined),
    lock: async (use) => file.lock(locks(use)),
  };
}
