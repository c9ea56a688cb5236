/**
 * Encrypted guest data: the key that an image's header leads to, and places whose bytes are read in the clear.
 *
 * With LUKS the header of a LUKS1 disk lies in clusters of the image, and a sector's number is that of its place
 * in the file: shared clusters stay readable wherever the guest finds them. The old AES method takes the
 * passphrase for the key and the number of the guest's sector, and is only read. Tables and compressed clusters
 * are never enciphered.
 *
 * Spec: qcow2.txt, "Full disk encryption header pointer" and "Data encryption".
 */
import { DiskError, type HostFile, type HostSource } from '@strata/block';
import type { KeyArea, KeyChange, LuksInfo, SectorCipher, WritableKeyArea } from '@strata/luks';
import type { DataSpace } from './data-space.ts';
import { Encryption } from './format.ts';
import { geometryOf } from './geometry.ts';
import { type Header, readHeader } from './header.ts';

/** It takes as long to load as a small command, and few images are encrypted. */
const luks = () => import('@strata/luks');

/** Fills `into` with guest bytes from `offset` on, which lie at `at` in their file. */
export type ReadClear = (into: Uint8Array, at: number, offset: number) => Promise<void>;

/** How guest data is enciphered. */
export interface GuestCipher {
  /** Reads from `data`, the file that holds the guest's bytes. */
  reader(data: HostSource): ReadClear;
  /** The same places, their bytes in the clear: what was never written there does not read as zeros. */
  space(space: DataSpace): DataSpace;
}

/** What opens an encrypted image. */
export interface EncryptionOptions {
  /**
   * Of one key slot, or the key itself with the old method. It is not changed, and not used if nothing is
   * encrypted.
   */
  readonly passphrase?: Uint8Array | undefined;
  /** The method that the image must have. */
  readonly encryptFormat?: string | undefined;
}

const SPEC = 'qcow2.txt, "Full disk encryption header pointer"';

/**
 * The cipher of an image; undefined if it is not encrypted.
 *
 * @throws {DiskError} invalid without a passphrase; denied if it opens no key slot; corrupt, limit, not-supported
 */
export async function openEncryption(
  file: HostSource,
  header: Header,
  options: EncryptionOptions,
): Promise<GuestCipher | undefined> {
  const method = methodOf(header);
  checkMethod(method, options);
  if (method === undefined) return undefined;
  const { passphrase } = options;
  if (passphrase === undefined)
    throw new DiskError('invalid', "Parameter 'encrypt.key-secret' is required for cipher");
  const module = await luks();
  if (method === 'aes') return oldCipher(module, passphrase);
  const { cipher } = await module.openLuks(keyArea(file, header), passphrase);
  return luksCipher(module, cipher);
}

/** @throws {DiskError} invalid if the user said how the image is encrypted, and it is not so */
function checkMethod(method: string | undefined, { encryptFormat }: EncryptionOptions): void {
  if (encryptFormat === undefined || encryptFormat === method) return;
  const message =
    method === undefined
      ? `No encryption in image header, but options specified format '${encryptFormat}'`
      : `Header reported '${method}' encryption format but options specify '${encryptFormat}'`;
  throw new DiskError('invalid', message);
}

type Luks = typeof import('@strata/luks');

function luksCipher({ clearSource, clearFile }: Luks, cipher: SectorCipher): GuestCipher {
  return {
    reader: (data) => {
      const clear = clearSource({ file: data, cipher, start: 0 });
      return (into, at) => clear.read(into, at);
    },
    space: (space) => ({
      ...space,
      file: clearFile({ file: space.file, cipher, start: 0 }),
      allocate: async (cluster, most) => ({ ...(await space.allocate(cluster, most)), virgin: false }),
      tryAllocate: (cluster, most) => {
        const run = space.tryAllocate(cluster, most);
        return run && { ...run, virgin: false };
      },
    }),
  };
}

/** The passphrase is the key: cut, or filled up with zeros. */
function oldCipher({ clearSource, sectorCipher }: Luks, passphrase: Uint8Array): GuestCipher {
  const key = new Uint8Array(16);
  key.set(passphrase.subarray(0, 16));
  const spec = { cipher: 'aes-128', mode: 'cbc', ivGenerator: 'plain64', ivHash: undefined } as const;
  const cipher = sectorCipher(spec, key);
  key.fill(0);
  return {
    reader: (file) => (into, at, offset) =>
      clearSource({ file, cipher, start: at - offset }).read(into, offset),
    space: () => {
      throw new RangeError('an image with the old encryption is not opened for writing');
    },
  };
}

/** How the image is encrypted. */
export function methodOf(header: Header): 'aes' | 'luks' | undefined {
  if (header.cryptMethod === Encryption.none) return undefined;
  return header.cryptMethod === Encryption.aes ? 'aes' : 'luks';
}

/** The facts of the LUKS header of an image; undefined if it has none. @throws {DiskError} corrupt, not-supported */
export async function encryptionFacts(file: HostSource, header: Header): Promise<LuksInfo | undefined> {
  if (header.cryptMethod !== Encryption.luks || header.extensions.encryption === undefined) return undefined;
  return (await luks()).readLuksInfo(keyArea(file, header));
}

/** Where the LUKS header of an image is. @throws {DiskError} corrupt */
function keyArea(file: HostSource, header: Header): KeyArea {
  const { encryption } = header.extensions;
  if (encryption === undefined)
    throw new DiskError('corrupt', 'Missing CRYPTO header for crypt method 2', { spec: SPEC });
  const { at, length } = encryption;
  return {
    size: length,
    read: async (into, offset) => {
      if (offset + into.length > length)
        throw new DiskError('corrupt', 'Request for data outside of extension header', { offset: at });
      await file.read(into, at + offset);
    },
  };
}

/**
 * The same for changing its key slots. An image whose LUKS header lies over its own structures is not touched.
 *
 * @throws {DiskError} corrupt
 */
export function writableKeyArea(file: HostFile, header: Header): WritableKeyArea {
  const area = keyArea(file, header);
  const at = header.extensions.encryption?.at ?? 0;
  const { clusterSize } = geometryOf(header);
  const structures: readonly (readonly [at: number, length: number])[] = [
    [0, clusterSize],
    [header.l1At, header.l1Entries * 8],
    [header.refcountTableAt, header.refcountTableClusters * clusterSize],
    [header.snapshotsAt, header.snapshotCount * 40],
  ];
  if (structures.some(([start, length]) => at < start + length && start < at + area.size && length > 0))
    throw new DiskError('corrupt', 'the LUKS header overlaps a structure of the image', {
      offset: at,
      spec: SPEC,
    });
  return {
    ...area,
    write: async (from, offset) => {
      if (offset + from.length > area.size)
        throw new DiskError('corrupt', 'Request for data outside of extension header', { offset: at });
      await file.write(from, at + offset);
    },
    flush: () => file.flush(),
  };
}

/**
 * Changes the key slots of the LUKS image in `file`, which nobody else has open. As `changeKeys`.
 *
 * @throws {DiskError} corrupt, denied, invalid, limit, not-supported, and what the file throws
 */
export async function changeImageKeys(file: HostFile, change: KeyChange): Promise<void> {
  const header = await readHeader(file);
  const { changeKeys } = await luks();
  await changeKeys(writableKeyArea(file, header), change);
}
