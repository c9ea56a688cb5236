/**
 * Opening and creating files of the host.
 *
 * Only regular files and block devices are images. A FIFO would hold up the process for ever when it is
 * opened and a character device may do anything, so files are opened without blocking and looked at before
 * anything else is done with them.
 */
import { type BigIntStats, close, constants, fstat, fsync, open, statfs } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { HostFile } from '../device.ts';
import { hostError } from '../errno.ts';
import { DiskError } from '../errors.ts';
import { seekEnd } from '../posix/holes.ts';
import { loadLibc } from '../posix/libc.ts';
import { LOCKS, type LockMode } from '../posix/locks.ts';
import { FileDevice, type FileSource, type OpenedFile } from './file.ts';

/** What may be said when a file is opened. */
export interface OpenFileOptions {
  readonly access: 'read' | 'write';
  /** Locks to hold from the start; none if not given. `lock` changes them. */
  readonly lock?: LockMode;
}

/** What may be said when a file is created. */
export interface CreateFileOptions {
  /** Refuses a file that exists, with `exists`. Otherwise it is emptied. */
  readonly exclusive?: boolean;
}

/** A file opened for writing: a `HostFile` that can be locked. */
export type WritableFile = HostFile & FileSource;

/**
 * Opens a regular file or block device. No other kind is opened, not even for a moment that could be noticed.
 *
 * @throws {DiskError} not-found, denied, read-only, not-supported for other kinds of file, busy, io
 */
export async function openFile(
  path: string,
  options: OpenFileOptions & { readonly access: 'write' },
): Promise<WritableFile>;
export async function openFile(path: string, options: OpenFileOptions): Promise<FileSource>;
export async function openFile(path: string, options: OpenFileOptions): Promise<FileDevice> {
  const flags = options.access === 'write' ? constants.O_RDWR : constants.O_RDONLY;
  const file = new FileDevice(await openAndLook(path, flags, undefined));
  return settle(file, () => file.lock(options.lock ?? LOCKS.none));
}

/**
 * Creates a file, or empties one that is there. The locks of QEMU's `create` are taken first, so that a file
 * in use stays as it is; they are held until `lock` changes them. The first `flush` makes the name durable too.
 * A block device keeps its size and its bytes.
 *
 * @throws {DiskError} exists, not-found, denied, read-only, not-supported for other kinds of file, busy, no-space, io
 */
export async function createFile(path: string, options: CreateFileOptions = {}): Promise<WritableFile> {
  const flags = constants.O_RDWR | constants.O_CREAT | (options.exclusive ? constants.O_EXCL : 0);
  const file = new FileDevice(await openAndLook(path, flags, () => syncFolder(dirname(path))));
  return settle(file, async () => {
    file.lock(LOCKS.create);
    if (!file.isBlockDevice) await file.truncate(0);
  });
}

/** Runs the last step of an opening; if it fails, the file is closed again. */
async function settle(file: FileDevice, step: () => void | Promise<void>): Promise<FileDevice> {
  try {
    await step();
    return file;
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}

async function openAndLook(path: string, flags: number, sync: OpenedFile['syncFolder']): Promise<OpenedFile> {
  try {
    const libc = await loadLibc();
    // O_NONBLOCK is undefined on Windows.
    const fd = await promisify(open)(path, flags | (constants.O_NONBLOCK ?? 0), 0o644);
    try {
      const stat = await statOf(fd);
      const kind = kindOf(stat);
      if (kind === undefined) {
        throw new DiskError('not-supported', `'file' driver requires '${path}' to be a regular file`);
      }
      const size = kind === 'file' ? Number(stat.size) : deviceSize(libc, fd);
      const identity = `${stat.dev}:${stat.ino}`;
      const syncFolder = kind === 'file' ? sync : undefined;
      return { fd, path, identity, kind, size, libc, medium: await mediumOf(fd), syncFolder };
    } catch (error) {
      await promisify(close)(fd);
      throw error;
    }
  } catch (error) {
    throw hostError(error, { path, op: 'open' });
  }
}

function statOf(fd: number): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    fstat(fd, { bigint: true }, (error, stat) => (error ? reject(error) : resolve(stat)));
  });
}

function kindOf(stat: BigIntStats): OpenedFile['kind'] | undefined {
  if (stat.isFile()) return 'file';
  return stat.isBlockDevice() ? 'block device' : undefined;
}

function deviceSize(libc: OpenedFile['libc'], fd: number): number {
  if (libc) return seekEnd(libc, fd);
  throw new DiskError('not-supported', 'the size of a block device is not known on this platform');
}

/** What statfs(2) calls the file systems that are not on a disk of this machine. */
const MEDIA: ReadonlyMap<number, OpenedFile['medium']> = new Map([
  [0x0102_1994, 'memory'], // tmpfs
  [0x8584_58f6, 'memory'], // ramfs
  [0x6969, 'remote'], // NFS
  [0x517b, 'remote'], // SMB
  [0xff53_4d42, 'remote'], // CIFS
  [0xfe53_4d42, 'remote'], // SMB 2
  [0x6573_5546, 'remote'], // FUSE, virtiofs
  [0x0102_1997, 'remote'], // 9p
  [0x00c3_6400, 'remote'], // Ceph
]);

async function mediumOf(fd: number): Promise<OpenedFile['medium']> {
  if (process.platform !== 'linux') return 'disk';
  const { type } = await promisify(statfs)(`/proc/self/fd/${fd}`);
  return MEDIA.get(type) ?? 'disk';
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open folders, and keeps names without being asked.
  if (process.platform === 'win32') return;
  const fd = await promisify(open)(path, constants.O_RDONLY);
  try {
    await promisify(fsync)(fd);
  } catch (error) {
    // Some file systems have nothing to do here and say so.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
  } finally {
    await promisify(close)(fd);
  }
}
