/**
 * Replaces the header of an image in use: extensions and backing file's name included.
 *
 * A disk writes one sector whole or not at all, and the header's first sector is one; the extensions and the
 * name reach further. So they are written a second time behind all that is there, and the first sector is
 * switched to a header whose first extension is a filler that covers everything up to them. Under the filler
 * the final bytes are laid down, and the first sector is switched to them. At every moment the image has the old header
 * or the new one. A filler that a crash leaves behind is an extension that nobody knows; the next rewrite drops it.
 *
 * Spec: qcow2.txt, "Header" and "Header extensions".
 */
import type { HostFile } from '@strata/block';
import { fillerExtension } from './extensions.ts';
import { type Header, V2_LENGTH } from './header.ts';
import { encodeHeader } from './header-encode.ts';
import { readAt } from './table-reader.ts';

const SECTOR = 512;

/**
 * Writes `header` over the header of `file`; it is durable when the promise resolves. In a cluster with too little
 * room for both, it is one write of several sectors, as QEMU's always is.
 *
 * @throws {DiskError} no-space if it does not fit in the first cluster; then nothing has changed
 */
export async function rewriteHeader(file: HostFile, header: Header): Promise<void> {
  const bytes = encodeHeader(header);
  const clusterSize = 2 ** header.clusterBits;
  const old = Buffer.alloc(clusterSize);
  await readAt(file, old, 0);
  const used = Math.max(lengthUsed(old), bytes.length);
  const whole = Buffer.alloc(Math.ceil(used / 8) * 8);
  bytes.copy(whole);
  const writeThrough = async (from: Uint8Array, at: number): Promise<void> => {
    await file.write(from, at);
    await file.flush();
  };

  const fixed = header.version === 2 ? V2_LENGTH : bytes.readUInt32BE(100);
  const second = bytes.subarray(fixed);
  const roomFor = whole.length + second.length <= clusterSize && fixed + 8 <= SECTOR;
  if (whole.length <= SECTOR || !roomFor) return writeThrough(whole, 0);

  await writeThrough(second, whole.length);
  const switched = Buffer.from(whole.subarray(0, SECTOR));
  fillerExtension(whole.length - fixed - 8).copy(switched, fixed);
  if (header.backingName !== undefined) {
    const moved = whole.length - fixed;
    switched.writeBigUInt64BE(switched.readBigUInt64BE(8) + BigInt(moved), 8);
  }
  await writeThrough(switched, 0);
  await writeThrough(whole.subarray(SECTOR), SECTOR);
  await writeThrough(whole.subarray(0, SECTOR), 0);
  await file.write(new Uint8Array(second.length), whole.length);
}

function lengthUsed(cluster: Uint8Array): number {
  let end = cluster.length;
  while (end > 0 && cluster[end - 1] === 0) end--;
  return end;
}
