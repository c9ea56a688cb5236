/**
 * Names of other images, as images record them: untrusted text that becomes a path, or nothing.
 *
 * QEMU reads `json:{...}`, `nbd:...` and other protocols out of an image's metadata, which let crafted images
 * read and write anything the process could (CVE-2024-4467 and its family). Here a recorded name is a plain
 * local path. What a user types on the command line is another matter and is not judged here.
 */

import { basename, isAbsolute } from 'node:path';
import { DiskError } from '@strata/block';

/** QEMU's limit for the name of a backing file; longer ones are refused before they are used for anything. */
const longestName = 1023;

/**
 * The path that `name`, recorded in the image at `from`, stands for: relative names begin in `folder`, which
 * ends with a slash or is empty, and without it in the folder of that image.
 *
 * @throws {DiskError} denied
 */
export function referencePath(
  name: string,
  from: string,
  folder = from.slice(0, from.length - basename(from).length),
): string {
  const shown = printable(name);
  if (name.length === 0 || name.length > longestName) {
    throw new DiskError('denied', `a file name of ${name.length} characters`, { path: from });
  }
  if (hasControlCharacter(name)) {
    throw new DiskError('denied', `file name '${shown}' has control characters`, { path: from });
  }
  const scheme = schemeOf(name);
  if (scheme !== undefined) {
    const message = `'${shown}' names the protocol '${scheme}', and an image may only name local files`;
    throw new DiskError('denied', message, { path: from });
  }
  if (isAbsolute(name)) return name;
  // Not normalised: `d/..` is another folder than `.` where `d` is a symbolic link.
  return folder + name;
}

/** What stands before a colon, if no slash comes first: QEMU's rule for what is a protocol. */
export function schemeOf(name: string): string | undefined {
  return /^([^/:]*):/.exec(name)?.[1];
}

function hasControlCharacter(name: string): boolean {
  return [...name].some((character) => character < ' ' || character === '\u007f');
}

/** `text` for a message: control characters escaped, at most 80 characters. */
export function printable(text: string): string {
  const start = text.length > 80 ? `${text.slice(0, 80)}...` : text;
  return [...start]
    .map((c) => (hasControlCharacter(c) ? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}` : c))
    .join('');
}
