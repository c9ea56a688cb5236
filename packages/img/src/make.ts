/**
 * Makes the file of a new image: what `create` and `convert` have in common.
 *
 * A file that is there keeps its bytes until the format has accepted its options and the locks are taken; a file
 * that was not there is removed again if the image could not be made.
 */
import { unlink } from 'node:fs';
import { promisify } from 'node:util';
import {
  createFile,
  DiskError,
  type ImageFormat,
  isDiskError,
  LOCKS,
  openFile,
  type WritableFile,
} from '@strata/block';
import { asksForTable, type CreationRow, type CreationValues, creationHelp } from './creation.ts';
import { fileRows } from './formats/rows.ts';
import type { FormatSupport, NewImage } from './formats/support.ts';
import { supportNamed } from './known-formats.ts';
import type { Objects } from './objects/objects.ts';
import { neverFlushed } from './places/file.ts';
import { changedFile } from './places/host.ts';
import { pathOf, schemeName } from './places/schemes.ts';
import { CommandError } from './report.ts';
import { nodeOptions } from './typed/node-options.ts';

/** Not from node:fs/promises, which takes longer to load than the call. */
const remove = promisify(unlink);

/** All options of a new image of a format in a file of this machine. */
export function creationTable(support: FormatSupport): readonly CreationRow[] {
  const own = new Set(support.rows.map((row) => row.name));
  return [...support.rows, ...fileRows.filter((row) => !own.has(row.name))];
}

/** What `-o help` prints; undefined if no list asks for it. @throws {CommandError} if the format is not known */
export function creationAnswer(
  lists: readonly string[],
  format: string,
  name: string | undefined,
): string | undefined {
  if (!asksForTable(lists)) return undefined;
  const support = supportNamed(format);
  if (!support) throw new CommandError(`Unknown file format '${format}'`);
  if (name !== undefined) return `Supported options:\n${creationHelp(creationTable(support))}`;
  return [
    `Supported ${format} options:\n`,
    creationHelp(support.rows),
    '\nThe protocol level may support further options.\n',
    'Specify the target filename to include those options.\n',
  ].join('');
}

/** How an image is made. */
export interface Making {
  /** Nothing that is written is waited for, because what follows is not either (`-t unsafe`). */
  readonly unsafe?: boolean;
}

/**
 * Makes the image; it is on disk when the promise resolves. Resolves to true if the new disk reads as zeros.
 *
 * @throws {DiskError} worded for people, without the name of the image
 */
export async function makeImage(
  name: string,
  support: FormatSupport,
  image: NewImage,
  { unsafe = false }: Making = {},
): Promise<boolean> {
  const scheme = schemeName(name);
  if (scheme !== 'file') {
    throw new DiskError('not-supported', `Protocol driver '${scheme}' does not support image creation`);
  }
  const path = pathOf(name);
  const { file, isNew } = await openTarget(path);
  try {
    await using _ = file;
    const host = unsafe ? changedFile(file, neverFlushed) : file;
    const dataName = image.values.get('data_file');
    if (dataName === undefined) return await support.create(host, image);
    return await createWithData(String(dataName), (dataFile) => support.create(host, { ...image, dataFile }));
  } catch (error) {
    if (isNew) await remove(path);
    throw error;
  }
}

/** Makes the data file too. Its name is a plain path, since an image cannot record any other. */
async function createWithData(
  path: string,
  create: (dataFile: WritableFile) => Promise<boolean>,
): Promise<boolean> {
  const { file, isNew } = await openTarget(path);
  try {
    await using _ = file;
    return await create(file);
  } catch (error) {
    if (isNew) await remove(path);
    throw error;
  }
}

/** The format of the image that was made, with the passphrase that it was made with. */
export function madeFormat(
  support: FormatSupport,
  values: CreationValues,
  objects: Objects,
): ImageFormat | undefined {
  const keys = [...values].filter(([name]) => /^(encrypt\.)?key-secret$/.test(name));
  return support.configure?.(nodeOptions(new Map(keys), objects)).format;
}

async function openTarget(path: string): Promise<{ readonly file: WritableFile; readonly isNew: boolean }> {
  try {
    return { file: await createFile(path, { exclusive: true }), isNew: true };
  } catch (error) {
    if (!isDiskError(error, 'exists')) throw cannotCreate(path, error);
  }
  try {
    return { file: await openFile(path, { access: 'write', lock: LOCKS.create }), isNew: false };
  } catch (error) {
    throw cannotCreate(path, error);
  }
}

function cannotCreate(path: string, error: unknown): unknown {
  if (!isDiskError(error)) return error;
  const byHost = error.context.op === 'open' && error.cause !== undefined;
  const message = byHost ? `Could not create '${path}': ${error.message}` : error.message;
  return new DiskError(error.code, message, { ...error.context, cause: error });
}
