/**
 * Who may open what an image names.
 *
 * Nothing named inside an image is opened but through the `OpenGate` that the caller passed. The gate judges
 * twice: the name before anything is opened, and the file that really was opened, so that a symbolic link
 * cannot lead out of an allowed folder between the two.
 */

import { realpath as realpathCall } from 'node:fs';
import { resolve, sep } from 'node:path';
import { promisify } from 'node:util';
import type { BackingReference } from '@strata/block';
import { DiskError } from '@strata/block';
import { printable, referencePath } from './reference.ts';

/** Not from node:fs/promises, which takes longer to load than a small command has. */
const realpath = promisify(realpathCall.native);

/** A name that comes out of an image. */
export interface FileReference extends BackingReference {
  /** `data`: the file of the image's guest data. Its relative names begin in the folder of the process, as QEMU's do. */
  readonly use?: 'backing' | 'data';
}

/** The policy over names that come out of images. */
export interface OpenGate {
  /** The path to open for `reference`, which the image at `from` records. @throws {DiskError} denied */
  resolve(reference: FileReference, from: string): Promise<string>;
  /** Judges the file behind an opened reference, every link followed. @throws {DiskError} denied */
  admit(realPath: string, reference: FileReference, from: string): Promise<void>;
}

/** No image may name another. */
export const denyAll: OpenGate = {
  resolve: (reference, from) => Promise.reject(refused(reference, from, 'references are not followed here')),
  admit: (_real, reference, from) =>
    Promise.reject(refused(reference, from, 'references are not followed here')),
};

/** Any local path may be named. For images that are trusted as their owner is. */
export const allowLocal: OpenGate = {
  resolve: async (reference, from) => pathOf(reference, from),
  admit: () => Promise.resolve(),
};

/** Only files inside `folders`, or below them, may be named. Links are followed before the judgement. */
export function allowFolders(folders: readonly string[]): OpenGate {
  let roots: Promise<readonly string[]> | undefined;
  const admit = async (realPath: string, reference: FileReference, from: string): Promise<void> => {
    roots ??= Promise.all(folders.map(realFolder));
    const allowed = await roots;
    if (allowed.some((root) => isInside(realPath, root))) return;
    throw refused(reference, from, `outside of ${allowed.map((root) => `'${root}'`).join(', ')}`);
  };
  return {
    admit,
    resolve: async (reference, from) => {
      const path = pathOf(reference, from);
      // A file that is not there is left for the opening to report.
      const real = await realpath(path).catch(() => undefined);
      if (real !== undefined) await admit(real, reference, from);
      return path;
    },
  };
}

/** @throws {DiskError} denied */
function pathOf({ name, use }: FileReference, from: string): string {
  return referencePath(name, from, use === 'data' ? '' : undefined);
}

async function realFolder(folder: string): Promise<string> {
  return realpath(folder).catch(() => resolve(folder));
}

/** True if `path` is `root` or below it; `/a/bc` is not inside `/a/b`. */
function isInside(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

function refused(reference: FileReference, from: string, why: string): DiskError {
  const what = reference.use === 'data' ? 'Data file' : 'Backing file';
  const message = `${what} '${printable(reference.name)}' refused: ${why}`;
  return new DiskError('denied', message, { path: from, op: 'gate' });
}
