/**
 * The file of a layer, known again: by its length and the time of its last change, or, where the time is another
 * (it was copied, restored from tape, edited), by a digest of all its bytes.
 */
import { createHash } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { DiskError, hostError, isDiskError, openFile } from '@strata/block';
import { type FileIdentity, layerName, type Manifest } from './manifest.ts';

const pieceLength = 1 << 20;

/** Looks at a file whole. @throws {DiskError} not-found, not-supported if it is no regular file, io */
export async function identifyFile(path: string): Promise<FileIdentity> {
  const before = await statusOf(path);
  await using file = await openFile(path, { access: 'read' });
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafeSlow(pieceLength);
  for (let at = 0; at < file.size; at += pieceLength) {
    const piece = buffer.subarray(0, Math.min(pieceLength, file.size - at));
    await file.read(piece, at);
    hash.update(piece);
  }
  return { ...before, length: file.size, sha256: hash.digest('hex') };
}

async function statusOf(path: string): Promise<Pick<FileIdentity, 'length' | 'modified'>> {
  try {
    const { size, mtimeNs, isFile } = await lstat(path, { bigint: true }).then((found) => {
      return { size: found.size, mtimeNs: found.mtimeNs, isFile: found.isFile() };
    });
    if (!isFile) throw new DiskError('not-supported', 'it is not a regular file', { path });
    return { length: Number(size), modified: String(mtimeNs) };
  } catch (error) {
    throw hostError(error, { path, op: 'open' });
  }
}

/** How closely a layer is looked at. */
export type Scrutiny =
  /** All bytes of it. */
  | 'whole'
  /** Its length, and all bytes of it if it was written since. */
  | 'if-touched';

/**
 * Checks that the layer of a backup is the file that was written.
 *
 * @throws {DiskError} not-found if it is not there, corrupt if it is another
 */
export async function checkLayerFile(folder: string, manifest: Manifest, scrutiny: Scrutiny): Promise<void> {
  const name = layerName(manifest.number);
  const path = join(folder, name);
  const { length, sha256, modified } = manifest.file;
  const found = await statusOf(path).catch((error: unknown) => {
    throw named(error, name);
  });
  if (found.length !== length) {
    const message = `layer '${name}' is ${found.length} bytes long, and ${length} were written: it was changed or cut`;
    throw new DiskError('corrupt', message, { path });
  }
  if (scrutiny === 'if-touched' && found.modified === modified) return;
  if ((await identifyFile(path)).sha256 === sha256) return;
  throw new DiskError('corrupt', `layer '${name}' is not as it was written: its digest is another`, { path });
}

function named(error: unknown, name: string): unknown {
  if (!isDiskError(error)) return error;
  return new DiskError(error.code, `layer '${name}': ${error.message}`, { ...error.context, cause: error });
}
