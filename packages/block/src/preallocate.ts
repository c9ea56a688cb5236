/**
 * Space for a disk before anything is written to it.
 *
 * `falloc` reserves it, `full` writes zeros: some hosts reserve space that a write may still fail to get.
 */
import type { HostFile } from './device.ts';

/**
 * How much of a disk's space is had from the start: nothing, the tables that lead to it (formats with tables only),
 * space reserved by the host, or zeros written out.
 */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

const ZEROS = new Uint8Array(1 << 20);

/** Makes a range of a file zeros that take space; past the end it extends the file. @throws {DiskError} no-space, io */
export async function spendSpace(
  file: HostFile,
  offset: number,
  length: number,
  how: 'falloc' | 'full',
): Promise<void> {
  if (length === 0) return;
  if (how === 'falloc') return file.zero(offset, length, { allocate: true });
  for (let at = 0; at < length; at += ZEROS.length)
    await file.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), offset + at);
}
