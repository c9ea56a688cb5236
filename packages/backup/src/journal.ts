/**
 * What is known of a backup under way, so that it can be gone on with after whatever interrupted it.
 *
 * A backup is gone on with only towards the same point in time: the same checkpoint of the same source, which
 * stood still both times. When all is copied the journal holds the manifest, and from then on the backup can be
 * finished without its source.
 */
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hostError, isDiskError } from '@strata/block';
import { formatManifest, longestManifest, type Manifest, parseManifest } from './manifest.ts';
import { replaceFile, syncFolder } from './replace-file.ts';

/** What must be alike for going on. */
export interface Undertaking {
  readonly number: number;
  readonly size: number;
  readonly source: string;
  readonly checkpoint: string | undefined;
  readonly bitmaps: readonly string[];
  /** Of the parent's layer; undefined for a full backup. */
  readonly parent: string | undefined;
  readonly compressed: boolean;
}

/** How far a backup is. */
export type Journal =
  | {
      readonly state: 'copying';
      readonly undertaking: Undertaking;
      /** Up to here the layer is whole and durable. */
      readonly done: number;
    }
  | { readonly state: 'copied'; readonly manifest: Manifest };

const version = 1;

/** Where the journal of a folder is. */
export function journalPath(folder: string): string {
  return join(folder, '.journal.json');
}

/** Where the layer is written while it is not whole. */
export function partPath(folder: string): string {
  return join(folder, '.unfinished.qcow2');
}

/** Replaces the journal, durably. */
export function writeJournal(folder: string, journal: Journal): Promise<void> {
  const fields =
    journal.state === 'copied'
      ? { number: journal.manifest.number, manifest: formatManifest(journal.manifest) }
      : { undertaking: textOf(journal.undertaking), done: journal.done };
  return replaceFile(journalPath(folder), `${JSON.stringify({ version, ...fields })}\n`);
}

/** True if both are of one point in time. */
export function isSame(a: string, b: Undertaking): boolean {
  return a === textOf(b);
}

/** All of it in one order. */
function textOf({ number, size, source, checkpoint, bitmaps, parent, compressed }: Undertaking): string {
  return JSON.stringify([number, size, source, checkpoint ?? null, bitmaps, parent ?? null, compressed]);
}

/** A journal as it was read: what was undertaken is only compared. */
export type FoundJournal =
  | {
      readonly state: 'copying';
      readonly undertaking: string;
      readonly number: number;
      readonly done: number;
    }
  | { readonly state: 'copied'; readonly manifest: Manifest };

/** The journal of a folder; undefined if there is none, or none that can be used. @throws {DiskError} io, denied */
export async function readJournal(folder: string): Promise<FoundJournal | undefined> {
  const path = journalPath(folder);
  try {
    if ((await stat(path)).size > 2 * longestManifest) return undefined;
    return foundIn(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if (error instanceof SyntaxError || isDiskError(error)) return undefined;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw hostError(error, { path, op: 'open' });
  }
}

function foundIn(root: unknown): FoundJournal | undefined {
  if (typeof root !== 'object' || root === null || !('version' in root) || root.version !== version)
    return undefined;
  const { number, manifest, undertaking, done } = root as Readonly<Record<string, unknown>>;
  if (typeof manifest === 'string' && Number.isSafeInteger(number))
    return { state: 'copied', manifest: parseManifest(manifest, number as number) };
  if (typeof undertaking !== 'string' || !Number.isSafeInteger(done) || (done as number) < 0)
    return undefined;
  const [first] = JSON.parse(undertaking) as unknown[];
  if (!Number.isSafeInteger(first) || (first as number) < 1) return undefined;
  return { state: 'copying', undertaking, number: first as number, done: done as number };
}

/** Forgets a backup that was under way, with all that it wrote. */
export async function dropUnfinished(folder: string): Promise<void> {
  await rm(journalPath(folder), { force: true });
  await rm(partPath(folder), { force: true });
  await syncFolder(folder);
}
