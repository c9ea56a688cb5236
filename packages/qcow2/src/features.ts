/**
 * What the feature bits of a valid header ask for, and what of it this version does not do.
 *
 * `info` and `check` work on every image whose header can be read; its guest data is read and written only
 * where `unsupportedFor` has nothing to say.
 *
 * Spec: qcow2.txt, "Header".
 */
import { DiskError } from '@strata/block';
import { Autoclear, Encryption, Incompatible } from './format.ts';
import type { Header } from './header.ts';

const SPEC = 'qcow2.txt, "Header"';
const corrupt = (message: string, offset: number): DiskError =>
  new DiskError('corrupt', message, { offset, spec: SPEC });

/** True if the incompatible feature is set. */
export function hasFeature(header: Header, feature: keyof typeof Incompatible): boolean {
  return (header.incompatible & Incompatible[feature]) !== 0n;
}

/** What makes the guest's data unreadable although the header can be read; undefined if nothing does. */
export function contradictionIn(header: Header): DiskError | undefined {
  if ((header.autoclear & Autoclear.rawData) !== 0n && !hasFeature(header, 'dataFile'))
    return corrupt('data-file-raw requires a data file', 88);
  if (hasFeature(header, 'dataFile') && header.extensions.dataFile === undefined)
    return corrupt("'data-file' is required for this image", 72);
  if (header.cryptMethod === Encryption.luks && header.extensions.encryption === undefined)
    return corrupt('Missing CRYPTO header for crypt method 2', 32);
  return undefined;
}

/**
 * Why this version will not open the image to read or to write its guest data; undefined if it will.
 * `info` and `check` do not ask.
 */
export function unsupportedFor(header: Header, use: 'read' | 'write'): DiskError | undefined {
  const refuse = (message: string): DiskError => new DiskError('not-supported', message, { spec: SPEC });
  const contradiction = contradictionIn(header);
  if (contradiction !== undefined) return contradiction;
  if (use === 'read') return undefined;
  if (header.cryptMethod === Encryption.aes)
    return refuse('images with the old AES encryption can be read, but not written');
  if (hasFeature(header, 'corrupt'))
    return new DiskError('corrupt', 'qcow2: Image is corrupt; cannot be opened read/write', { spec: SPEC });
  return undefined;
}
