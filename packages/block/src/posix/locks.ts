/**
 * Locks that QEMU understands, so that Strata and a running QEMU refuse each other as two QEMUs do.
 *
 * Each permission has two bytes of the file: byte 100 + p is locked by who uses permission p, byte 200 + p by
 * who does not let others use it. All locks are shared ones and never conflict; what conflicts is found by
 * asking, after locking, whether an exclusive lock could be had on the opposite bytes. Locking first makes
 * it free of races: of two that start at once both may fail, but never both succeed.
 *
 * The locks belong to the open file description (OFD): they end when it is closed, and not, as POSIX locks
 * do, when some other descriptor of the file is.
 *
 * QEMU: block/file-posix.c, raw_apply_lock_bytes and raw_check_lock_bytes. The modes are what its tools were seen to hold.
 */
import { constants } from 'node:os';
import { errnoError, errnoSentence } from '../errno.ts';
import { DiskError } from '../errors.ts';
import type { Libc } from './libc.ts';

/** What one may do to an image; the names are QEMU's. */
export type Permission = 'consistent read' | 'write' | 'write unchanged' | 'resize';

const PERMISSIONS: readonly Permission[] = ['consistent read', 'write', 'write unchanged', 'resize'];

/** What is used, and what others must not use meanwhile. */
export interface LockMode {
  readonly hold: readonly Permission[];
  readonly unshare: readonly Permission[];
}

/** The modes of QEMU's tools. */
export const LOCKS = {
  /** Nothing: gives up what was held. `info` of a raw image. */
  none: { hold: [], unshare: [] },
  /** Writing an image of a format with tables of its own (qcow2). */
  formatWrite: { hold: ['consistent read', 'write', 'resize'], unshare: ['write', 'resize'] },
  /** Reading such an image, also as a backing file; and the source of `convert`, raw ones too. */
  formatRead: { hold: ['consistent read'], unshare: ['write', 'resize'] },
  /** `info` of such an image: its tables must not change, its data may. */
  formatInfo: { hold: [], unshare: ['write', 'resize'] },
  /** Writing a raw image. */
  rawWrite: { hold: ['consistent read', 'write'], unshare: [] },
  /** Reading a raw image, also as a backing file. */
  rawRead: { hold: ['consistent read'], unshare: [] },
  /** Serving a raw image for writing: its size was told to clients and must stay. */
  rawServeWrite: { hold: ['consistent read', 'write'], unshare: ['resize'] },
  /** Serving a raw image for reading. */
  rawServeRead: { hold: ['consistent read'], unshare: ['resize'] },
  /** Writing the data file of an image, which goes with the image's own locks. */
  dataWrite: { hold: ['consistent read', 'write', 'resize'], unshare: ['resize'] },
  /** Reading it. */
  dataRead: { hold: ['consistent read'], unshare: ['resize'] },
  /** Changing the size of a raw image. */
  rawResize: { hold: ['consistent read', 'write', 'resize'], unshare: [] },
  /** Reading beside whoever writes: `-U`, `--force-share`. */
  forceShare: { hold: ['consistent read'], unshare: [] },
  /** Making a file anew, or emptying one. */
  create: { hold: ['write', 'resize'], unshare: ['resize'] },
} as const satisfies Record<string, LockMode>;

const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;

const heldByte = (permission: Permission): number => 100 + PERMISSIONS.indexOf(permission);
const unsharedByte = (permission: Permission): number => 200 + PERMISSIONS.indexOf(permission);
const bytesOf = (mode: LockMode): number[] => [...mode.hold.map(heldByte), ...mode.unshare.map(unsharedByte)];

/** `struct flock` of 64-bit Linux, for one byte. */
class FileLock {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #fields = new ArrayBuffer(32);
  readonly #view = new DataView(this.#fields);
  readonly #address: number;

  constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
    this.#address = libc.address(this.#fields);
  }

  /** The errno, or 0. */
  set(type: number, byte: number): number {
    return this.#call(F_OFD_SETLK, type, byte);
  }

  /** True if somebody else has any lock on the byte. @throws {DiskError} io */
  isTaken(byte: number): boolean {
    const errno = this.#call(F_OFD_GETLK, F_WRLCK, byte);
    if (errno !== 0) throw errnoError(errno, { op: 'fcntl' });
    return this.#view.getInt16(0, true) !== F_UNLCK;
  }

  #call(command: number, type: number, byte: number): number {
    this.#view.setInt16(0, type, true);
    this.#view.setInt16(2, 0, true);
    this.#view.setUint32(8, byte, true);
    this.#view.setUint32(16, 1, true);
    this.#view.setInt32(24, 0, true);
    return this.#libc.fcntl(this.#fd, command, this.#address) < 0 ? this.#libc.errno() : 0;
  }
}

/**
 * Goes over from the locks of one mode to those of another. If it throws, the old ones are held as before.
 *
 * @throws {DiskError} busy in QEMU's words, io
 */
export function changeLock(libc: Libc, fd: number, from: LockMode, to: LockMode): void {
  const lock = new FileLock(libc, fd);
  const held = bytesOf(from);
  const wanted = bytesOf(to);
  const added: number[] = [];
  try {
    for (const byte of wanted.filter((one) => !held.includes(one))) {
      const errno = lock.set(F_RDLCK, byte);
      if (errno !== 0) throw notLocked(errno, byte);
      added.push(byte);
    }
    checkOthers(lock, to);
  } catch (error) {
    for (const byte of added) lock.set(F_UNLCK, byte);
    throw error;
  }
  for (const byte of held) {
    if (!wanted.includes(byte)) lock.set(F_UNLCK, byte);
  }
}

function checkOthers(lock: FileLock, mode: LockMode): void {
  for (const permission of PERMISSIONS) {
    if (mode.hold.includes(permission) && lock.isTaken(unsharedByte(permission))) {
      throw new DiskError('busy', `Failed to get "${permission}" lock`, { op: 'lock' });
    }
    if (mode.unshare.includes(permission) && lock.isTaken(heldByte(permission))) {
      throw new DiskError('busy', `Failed to get shared "${permission}" lock`, { op: 'lock' });
    }
  }
}

function notLocked(errno: number, byte: number): DiskError {
  const taken = errno === constants.errno.EAGAIN || errno === constants.errno.EACCES;
  const cause = errnoError(errno, { op: 'fcntl' });
  const text = `Failed to lock byte ${byte}: ${taken ? errnoSentence('EAGAIN') : cause.message}`;
  return new DiskError(taken ? 'busy' : cause.code, text, { op: 'lock', cause });
}
