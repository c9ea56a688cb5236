/**
 * Which format a file is, by its first bytes.
 *
 * Probing is for reading. A guest that can write its raw disk can write another format's header into it, and
 * a program that probes would then follow the names in that header (CVE-2008-2004 and its family): so an
 * image that only looks raw is never opened for writing unless the caller says that it is raw.
 */
import { DiskError, type HostSource, type ImageFormat } from '@strata/block';

/** How much of a file is looked at: as much as QEMU. */
const headLength = 512;

/** The format called `name`. @throws {DiskError} not-supported */
export function formatNamed(name: string, formats: readonly ImageFormat[]): ImageFormat {
  const format = formats.find((candidate) => candidate.name === name);
  if (format === undefined) throw new DiskError('not-supported', `Unknown driver '${name}'`);
  return format;
}

/** The format that the first bytes of `file` are of, or `raw` where they are of none. */
export async function probe(file: HostSource, formats: readonly ImageFormat[]): Promise<ImageFormat> {
  const head = new Uint8Array(headLength);
  await file.read(head, 0);
  return formats.find((format) => format.matches(head)) ?? formatNamed('raw', formats);
}
