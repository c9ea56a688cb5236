/**
 * The luks format: a disk behind a LUKS1 header, enciphered from its first byte to its last.
 *
 * Nothing in it tells which bytes the guest wrote: all of them count as data, and what nobody wrote deciphers
 * to noise. So every range maps to `encoded`.
 *
 * Spec: LUKS1 On-Disk Format Specification 1.2.3, "Header".
 */
import {
  type Capabilities,
  DiskError,
  type HostFile,
  type HostSource,
  type ImageFormat,
  type Layer,
  type LayerSource,
  Lifetime,
  type Mapping,
  type OpenSourceOptions,
  type ResizeOptions,
} from '@strata/block';
import { clearFile, clearSource } from './encrypted-host.ts';
import { isLuks, SECTOR } from './format.ts';
import type { LuksHeader } from './header.ts';
import { openLuks } from './key-slots.ts';
import type { SectorCipher } from './sector-cipher.ts';

/** What a disk is opened with. */
export interface LuksOptions {
  /** Opens one of its key slots. Undefined: only what needs no key can be done. It is not changed. */
  readonly passphrase?: Uint8Array | undefined;
}

/** The luks format, with a passphrase for the disks that are opened. */
export function luksFormatWith(options: LuksOptions): ImageFormat {
  return Object.freeze({
    name: 'luks',
    exclusive: false,
    matches: isLuks,
    openSource: async (file: HostSource, { snapshot }: OpenSourceOptions = {}) => {
      if (snapshot !== undefined) throw noSnapshots();
      const { cipher, start, size } = await openDisk(file, options);
      return sourceOf(() => size, clearSource({ file, cipher, start }), new Lifetime());
    },
    open: async (file: HostFile) => {
      const disk = await openDisk(file, options);
      return layerOf(file, disk);
    },
  });
}

/** The luks format without a passphrase: no disk can be opened. */
export const luksFormat: ImageFormat = luksFormatWith({});

function noSnapshots(): DiskError {
  const message =
    "Block format 'luks' used by device '' does not support temporarily loading internal snapshots";
  return new DiskError('not-supported', message, { op: 'snapshot' });
}

interface Disk {
  readonly cipher: SectorCipher;
  readonly start: number;
  readonly size: number;
}

async function openDisk(file: HostSource, { passphrase }: LuksOptions): Promise<Disk> {
  if (passphrase === undefined)
    throw new DiskError('invalid', "Parameter 'key-secret' is required for cipher");
  const { header, cipher } = await openLuks(file, passphrase);
  return { cipher, start: header.payloadSector * SECTOR, size: diskSize(file, header) };
}

/**
 * Bytes of the disk behind a header: a last sector that the file does not hold as a whole counts.
 *
 * @throws {DiskError} corrupt if the file ends before the disk begins
 */
export function diskSize(file: HostSource, header: Pick<LuksHeader, 'payloadSector'>): number {
  const sectors = Math.ceil(file.size / SECTOR) - header.payloadSector;
  if (sectors >= 0) return sectors * SECTOR;
  const message = `the file ends at ${file.size} bytes, before the encrypted payload at ${header.payloadSector * SECTOR}`;
  throw new DiskError('corrupt', message, { offset: file.size });
}

function sourceOf(size: () => number, clear: HostSource, lifetime: Lifetime): LayerSource {
  const tryMap = (offset: number, limit: number): Mapping => {
    lifetime.check();
    return { kind: 'encoded', length: Math.min(limit, size() - offset) };
  };
  return {
    format: 'luks',
    backing: undefined,
    get size() {
      return size();
    },
    tryMap,
    map: async (offset, limit) => tryMap(offset, limit),
    readEncoded: (into, offset) => running(lifetime, () => clear.read(into, offset)),
    [Symbol.asyncDispose]: () => lifetime.end(async () => {}),
  };
}

function layerOf(file: HostFile, disk: Disk): Layer {
  const clear = clearFile({ file, ...disk });
  const lifetime = new Lifetime();
  let { size } = disk;
  const caps: Capabilities = Object.freeze({ blockSize: SECTOR, zero: 'emulated', discard: 'ignored' });
  const source = sourceOf(() => size, clear, lifetime);

  /** The size changes last: what is added is zeros by then, written out, so that its space is taken as well. */
  const resize = async (wanted: number, { preallocation }: ResizeOptions = {}): Promise<void> => {
    if (preallocation === 'metadata')
      throw new DiskError('not-supported', 'Unsupported preallocation mode: metadata');
    if (wanted % SECTOR !== 0) throw new DiskError('invalid', 'The new size must be a multiple of 512');
    if (wanted < size) await clear.truncate(wanted);
    else await grow(wanted);
    size = wanted;
  };
  const grow = async (wanted: number): Promise<void> => {
    try {
      await clear.zero(size, wanted - size);
    } catch (error) {
      await clear.truncate(size).catch(() => undefined);
      throw error;
    }
  };
  return {
    format: source.format,
    backing: undefined,
    get size() {
      return size;
    },
    caps,
    tryMap: source.tryMap,
    map: source.map,
    readEncoded: source.readEncoded,
    write: (from, offset) => running(lifetime, () => clear.write(from, offset)),
    zero: (offset, length, _below, how) => running(lifetime, () => clear.zero(offset, length, how)),
    discard: () => running(lifetime, async () => {}),
    flush: () => running(lifetime, () => file.flush()),
    empty: () =>
      running(lifetime, async () => {
        throw new DiskError('not-supported', 'a luks disk cannot be emptied: it has nothing below it');
      }),
    resize: (wanted, _below, how) => running(lifetime, () => resize(wanted, how)),
    [Symbol.asyncDispose]: source[Symbol.asyncDispose],
  };
}

/** Runs a call, so that closing waits for it. */
async function running<T>(lifetime: Lifetime, call: () => Promise<T>): Promise<T> {
  lifetime.enter();
  try {
    return await call();
  } finally {
    lifetime.leave();
  }
}
