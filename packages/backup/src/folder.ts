/**
 * A folder of backups of one disk: layers, a manifest beside each, and at most one backup under way.
 *
 * A backup exists when its manifest does. What a backup under way has written bears hidden names, so that nothing of
 * it is taken for a backup; whoever writes holds the folder's lock.
 */
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, DiskError, hostError, isDiskError, type WritableFile } from '@strata/block';
import { longestChain } from '@strata/chain';
import {
  layerName,
  longestManifest,
  type Manifest,
  manifestName,
  numberOfManifest,
  parseManifest,
} from './manifest.ts';
import { syncFolder } from './replace-file.ts';

/** More files than this are not a folder of backups. */
const mostFiles = 100_000;

/** A backup in a folder. */
export interface Point {
  readonly number: number;
  /** Undefined: it cannot be read, and `problem` says why. */
  readonly manifest: Manifest | undefined;
  readonly problem: DiskError | undefined;
}

/** A folder that nobody else writes meanwhile. Disposing of it gives up the lock. */
export interface LockedFolder extends AsyncDisposable {
  readonly path: string;
}

/** Opens a folder to add backups to it; makes it if it is not there. @throws {DiskError} busy, denied, io */
export async function lockFolder(path: string): Promise<LockedFolder> {
  const made = await mkdir(path, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw hostError(error, { path, op: 'open' });
  });
  if (made !== undefined) await syncFolder(join(path, '..'));
  let lock: WritableFile;
  try {
    lock = await createFile(join(path, '.lock'));
  } catch (error) {
    if (!isDiskError(error, 'busy')) throw error;
    throw new DiskError('busy', `somebody else is writing to the folder '${path}'`, { path, cause: error });
  }
  return { path, [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose]() };
}

/** All backups of a folder, oldest first. @throws {DiskError} not-found, limit, denied, io */
export async function readPoints(folder: string): Promise<readonly Point[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw hostError(error, { path: folder, op: 'open' });
  });
  if (names.length > mostFiles) throw new DiskError('limit', `more than ${mostFiles} files in '${folder}'`);
  const numbers = names.map(numberOfManifest).filter((number) => number !== undefined);
  const points: Point[] = [];
  for (const number of numbers.sort((a, b) => a - b)) points.push(await readPoint(folder, number));
  return points;
}

async function readPoint(folder: string, number: number): Promise<Point> {
  const path = join(folder, manifestName(number));
  try {
    const status = await stat(path);
    if (!status.isFile()) throw new DiskError('not-supported', 'it is not a regular file');
    if (status.size > longestManifest) {
      throw new DiskError('limit', `it is longer than ${longestManifest} bytes`);
    }
    return { number, manifest: parseManifest(await readFile(path, 'utf8'), number), problem: undefined };
  } catch (error) {
    const problem = hostError(error, { path });
    if (!isDiskError(problem)) throw error;
    const message = `manifest '${manifestName(number)}': ${problem.message}`;
    return {
      number,
      manifest: undefined,
      problem: new DiskError(problem.code, message, { path, cause: problem }),
    };
  }
}

/** The number that the next backup gets: no file bears it. */
export async function nextNumber(folder: string): Promise<number> {
  const names = await readdir(folder);
  const numbers = names.map((name) => Number(/^\.?(\d{4,9})\./.exec(name)?.[1] ?? 0));
  return Math.max(0, ...numbers) + 1;
}

/**
 * The backup that a person means: the newest, a number, or a checkpoint.
 *
 * @throws {DiskError} not-found
 */
export function pointNamed(points: readonly Point[], wanted: string | undefined): Point {
  const found =
    wanted === undefined
      ? points.at(-1)
      : (points.findLast(({ manifest }) => manifest?.checkpoint === wanted) ??
        points.find(({ number }) => /^\d{1,9}$/.test(wanted) && number === Number(wanted)));
  if (found !== undefined) return found;
  throw new DiskError(
    'not-found',
    wanted === undefined
      ? 'there are no backups in the folder'
      : `there is no backup '${wanted}' in the folder`,
  );
}

/**
 * The manifests that lead to a point, it first and the full backup last. That each is the one that its child was
 * made upon is known by the digests in the manifests; the layers themselves are not looked at.
 *
 * @throws {DiskError} not-found, corrupt, limit, and the problem of a manifest that cannot be read
 */
export function chainTo(points: readonly Point[], point: Point): readonly Manifest[] {
  const chain: Manifest[] = [];
  for (let next: Point | undefined = point; next !== undefined; ) {
    const { manifest, problem }: Point = next;
    if (manifest === undefined) throw problem as DiskError;
    if (chain.length === longestChain)
      throw new DiskError('limit', `more than ${longestChain} backups in one chain`);
    chain.push(manifest);
    next = manifest.parent === undefined ? undefined : parentOf(points, manifest);
  }
  return chain;
}

function parentOf(points: readonly Point[], child: Manifest): Point {
  const { number, sha256 } = child.parent as NonNullable<Manifest['parent']>;
  const found = points.find((point) => point.number === number);
  const builds = `'${layerName(child.number)}' builds upon '${layerName(number)}'`;
  if (found === undefined) throw new DiskError('not-found', `${builds}, which has no manifest`);
  if (found.manifest !== undefined && found.manifest.file.sha256 !== sha256)
    throw new DiskError('corrupt', `${builds}, and that is another one now`);
  if (found.manifest !== undefined && found.manifest.size !== child.size)
    throw new DiskError('corrupt', `${builds}, which is of a disk of another size`);
  return found;
}
