/**
 * Opens a point of a folder to restore it, and checks folders. Nothing is handed out before every layer of the point was seen
 * to be the one that was written, and to lead to the next.
 */
import { join } from 'node:path';
import { DiskError, isDiskError } from '@strata/block';
import type { Chain } from '@strata/chain';
import { chainTo, type Point, pointNamed, readPoints } from './folder.ts';
import { checkLayerFile, type Scrutiny } from './layer-file.ts';
import { layerName, type Manifest } from './manifest.ts';
import type { LayerFiles } from './take.ts';

/** A backup, open. Disposing of `chain` closes it. */
export interface OpenedPoint {
  /** It first, the full backup last. */
  readonly manifests: readonly Manifest[];
  readonly chain: Chain;
}

/**
 * Opens the backup that `wanted` names (see `pointNamed`).
 *
 * @throws {DiskError} not-found, corrupt, limit, denied, and what opening meets
 */
export async function openPoint(
  folder: string,
  wanted: string | undefined,
  files: Pick<LayerFiles, 'open'>,
  scrutiny: Scrutiny,
): Promise<OpenedPoint> {
  const points = await readPoints(folder);
  return openFound(folder, points, pointNamed(points, wanted), files, scrutiny);
}

async function openFound(
  folder: string,
  points: readonly Point[],
  point: Point,
  files: Pick<LayerFiles, 'open'>,
  scrutiny: Scrutiny,
): Promise<OpenedPoint> {
  const manifests = chainTo(points, point);
  for (const manifest of manifests) await checkLayerFile(folder, manifest, scrutiny);
  const chain = await files.open(join(folder, layerName(point.number)));
  try {
    judgeChain(chain, manifests);
    return { manifests, chain };
  } catch (error) {
    await chain[Symbol.asyncDispose]();
    throw error;
  }
}

/** The files must lead to each other as the manifests do. */
function judgeChain({ images }: Chain, manifests: readonly Manifest[]): void {
  manifests.forEach(({ number, parent, size }, index) => {
    const name = layerName(number);
    const image = images[index];
    const recorded = images[index + 1]?.reference?.name;
    const expected = parent === undefined ? undefined : layerName(parent.number);
    if (image === undefined || recorded !== expected)
      throw new DiskError(
        'corrupt',
        `layer '${name}' builds upon '${recorded}', and its manifest says '${expected}'`,
      );
    if (image.layer.size !== size)
      throw new DiskError(
        'corrupt',
        `layer '${name}' is of a disk of ${image.layer.size} bytes, and its manifest says ${size}`,
      );
  });
}

/** What was found of one backup. */
export interface Verdict {
  readonly number: number;
  readonly manifest: Manifest | undefined;
  /** Why it cannot be restored; undefined: it can. */
  readonly problem: DiskError | undefined;
}

/**
 * Looks at every layer of a folder whole, each once.
 *
 * @throws {DiskError} not-found, limit, io if the folder cannot be read
 */
export async function verifyFolder(
  folder: string,
  files: Pick<LayerFiles, 'open'>,
): Promise<readonly Verdict[]> {
  const points = await readPoints(folder);
  const broken = new Map<number, DiskError>();
  const verdicts: Verdict[] = [];
  for (const point of points) {
    const { number, manifest } = point;
    const problem = await problemOf(async () => {
      if (manifest === undefined) throw point.problem;
      const chain = chainTo(points, point);
      for (const below of chain.slice(1)) if (broken.has(below.number)) throw broken.get(below.number);
      await checkLayerFile(folder, manifest, 'whole');
      // Those below were looked at before: a parent has a smaller number.
      const { chain: opened } = await openFound(folder, points, point, files, 'if-touched');
      await opened[Symbol.asyncDispose]();
    });
    if (problem !== undefined) broken.set(number, problem);
    verdicts.push({ number, manifest, problem });
  }
  return verdicts;
}

async function problemOf(check: () => Promise<void>): Promise<DiskError | undefined> {
  try {
    await check();
    return undefined;
  } catch (error) {
    if (isDiskError(error)) return error;
    throw error;
  }
}
