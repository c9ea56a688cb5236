/**
 * Where the bitmaps of an image are kept that keeps none itself: a file beside it, called like it with `.bitmaps` behind.
 *
 * It is replaced as a whole: written under another name, made durable, moved, and the folder made durable. A power cut
 * leaves the old file or the new one. The name is that of the real file, so that all links to an image find it, and
 * what stands there must be a plain file.
 */
import {
  chmod,
  close,
  constants,
  fsync,
  lstat,
  open,
  realpath,
  rename,
  type Stats,
  stat,
  unlink,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { createFile, DiskError, type HostFile, type HostSource, hostError, openFile } from '@strata/block';

// Not from node:fs/promises, which takes longer to load than a look at a file takes.
const fs = {
  chmod: promisify(chmod),
  close: promisify(close),
  fsync: promisify(fsync),
  lstat: promisify(lstat),
  open: promisify(open),
  realpath: promisify(realpath.native),
  rename: promisify(rename),
  stat: promisify(stat),
  unlink: promisify(unlink),
};

/** A file that is read as a whole and replaced as a whole. */
export interface SidePlace {
  /** Undefined: there is none. @throws {DiskError} denied, not-supported, io */
  open(): Promise<HostSource | undefined>;
  /**
   * Puts what `write` writes to an empty file in its place; durable when it resolves, and until then the old one stays.
   *
   * @throws {DiskError} denied, no-space, io
   */
  replace(write: (file: HostFile) => Promise<void>): Promise<void>;
  /** Removes it, durably. */
  remove(): Promise<void>;
}

/** The place beside the file `path`. */
export async function placeBeside(path: string): Promise<SidePlace> {
  const image = await told(path, 'open', fs.realpath(path));
  const side = `${image}.bitmaps`;
  return {
    open: async () => {
      const found = await told(side, 'open', existing(side));
      if (found === undefined) return undefined;
      if (!found.isFile())
        throw new DiskError('not-supported', `'${side}' is not a plain file`, { path: side });
      return openFile(side, { access: 'read' });
    },
    replace: async (write) => {
      const fresh = `${side}.tmp`;
      // What an earlier end left there; never what a link leads to.
      await fs.unlink(fresh).catch(() => undefined);
      try {
        await using file = await createFile(fresh, { exclusive: true });
        // Whoever may not read the image may not know either what of it changed.
        await fs.chmod(fresh, (await fs.stat(image)).mode & 0o666);
        await write(file);
        await file.flush();
        await fs.rename(fresh, side);
      } catch (error) {
        await fs.unlink(fresh).catch(() => undefined);
        throw hostError(error, { path: side, op: 'replace' });
      }
      await told(side, 'fsync', syncFolder(dirname(side)));
    },
    remove: async () => {
      await told(side, 'unlink', fs.unlink(side));
      await told(side, 'fsync', syncFolder(dirname(side)));
    },
  };
}

async function existing(path: string): Promise<Stats | undefined> {
  try {
    return await fs.lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open folders, and keeps names without being asked.
  if (process.platform === 'win32') return;
  const folder = await fs.open(path, constants.O_RDONLY);
  try {
    await fs.fsync(folder);
  } catch (error) {
    // Some file systems have nothing to do here and say so.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
  } finally {
    await fs.close(folder);
  }
}

async function told<T>(path: string, op: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw hostError(error, { path, op });
  }
}
