/**
 * The key slots: finding the master key with a passphrase, putting it under another one, erasing a slot.
 *
 * Order on disk. A new slot's key material and the salt that goes with it are durable before the header says
 * that the slot is active; the header says that a slot is not active, durably, before material and salt are
 * destroyed. Whether it is active is one word in one sector. So a crash leaves every other slot as it was, and
 * the one in question either active and whole or not active.
 *
 * Spec: LUKS1 On-Disk Format Specification 1.2.3, "Operations".
 */
import { DiskError } from '@strata/block';
import { merge, split } from './anti-forensic.ts';
import { countIterations, deriveKey, randomFill, sameBytes } from './derive.ts';
import {
  HEADER_BYTES,
  MAX_TOTAL_ITERATIONS,
  MIN_ITERATIONS,
  SALT_BYTES,
  SECTOR,
  SLOTS,
  STRIPES,
} from './format.ts';
import { decodeHeader, encodeHeader, type KeySlot, type LuksHeader } from './header.ts';
import { checkCipher, type SectorCipher, sectorCipher } from './sector-cipher.ts';

/** Where a header and its key material are: the start of a file, or some clusters of one. */
export interface KeyArea {
  /** Bytes that belong to it; nothing past them is asked for. */
  readonly size: number;
  read(into: Uint8Array, offset: number): Promise<void>;
}

/** One that can be changed. */
export interface WritableKeyArea extends KeyArea {
  write(from: Uint8Array, offset: number): Promise<void>;
  flush(): Promise<void>;
}

/** How long deriving a new key takes, if nobody says; QEMU's standard. */
export const STANDARD_ITER_TIME = 2000;

/** The header at the start of `area`. @throws {DiskError} corrupt, not-supported */
export async function readHeader(area: KeyArea): Promise<LuksHeader> {
  const bytes = new Uint8Array(Math.min(HEADER_BYTES, area.size));
  await area.read(bytes, 0);
  return decodeHeader(bytes);
}

/**
 * The master key. The caller zeroes it after use.
 *
 * @throws {DiskError} denied if the passphrase opens no slot; limit; not-supported
 */
export async function unlock(area: KeyArea, header: LuksHeader, passphrase: Uint8Array): Promise<Uint8Array> {
  checkCipher(header.spec);
  checkIterations(header);
  for (const slot of header.slots) {
    const key = await openSlot(area, header, slot, passphrase);
    if (key !== undefined) return key;
  }
  throw new DiskError('denied', 'Invalid password, cannot unlock any keyslot');
}

/** The master key, if the slot is active and the passphrase is its. */
export async function openSlot(
  area: KeyArea,
  header: LuksHeader,
  slot: KeySlot,
  passphrase: Uint8Array,
): Promise<Uint8Array | undefined> {
  if (!slot.active) return undefined;
  const { hash, keyBytes: length, spec } = header;
  const material = new Uint8Array(materialBytes(length));
  const at = slot.materialSector * SECTOR;
  if (at + material.length > area.size)
    throw new DiskError('corrupt', 'the key material of a slot lies outside the area of the LUKS header', {
      offset: at,
    });
  await area.read(material, at);
  const slotKey = await deriveKey(passphrase, { hash, salt: slot.salt, iterations: slot.iterations, length });
  sectorCipher(spec, slotKey).decrypt(material, material, 0);
  slotKey.fill(0);
  const key = merge(hash, material, length, slot.stripes);
  material.fill(0);
  if (sameBytes(await digestOf(header, key), header.digest)) return key;
  key.fill(0);
  return undefined;
}

/**
 * The cipher of the disk whose header is at the start of `area`, and that header.
 *
 * @throws {DiskError} corrupt; denied if the passphrase opens no slot; limit; not-supported
 */
export async function openLuks(
  area: KeyArea,
  passphrase: Uint8Array,
): Promise<{ readonly header: LuksHeader; readonly cipher: SectorCipher }> {
  const header = await readHeader(area);
  const key = await unlock(area, header, passphrase);
  const cipher = sectorCipher(header.spec, key);
  key.fill(0);
  return { header, cipher };
}

/** What the header keeps of a key, to know it by. */
export function digestOf(
  header: Pick<LuksHeader, 'hash' | 'digestSalt' | 'digestIterations' | 'digest'>,
  key: Uint8Array,
): Promise<Buffer> {
  const { hash, digestSalt: salt, digestIterations: iterations, digest } = header;
  return deriveKey(key, { hash, salt, iterations, length: digest.length });
}

/**
 * Puts the master key under a passphrase, in the slot `index`, whatever that holds. Returns the header as it
 * is on disk then.
 */
export async function storeKey(
  area: WritableKeyArea,
  header: LuksHeader,
  index: number,
  key: Uint8Array,
  passphrase: Uint8Array,
  iterTime: number,
): Promise<LuksHeader> {
  const { hash, keyBytes: length, spec } = header;
  const salt = new Uint8Array(SALT_BYTES);
  randomFill(salt);
  const iterations = await iterationsFor(hash, length, iterTime, 1);
  const slotKey = await deriveKey(passphrase, { hash, salt, iterations, length });
  const material = new Uint8Array(materialBytes(length));
  const pieces = split(hash, key, STRIPES);
  material.set(pieces);
  pieces.fill(0);
  sectorCipher(spec, slotKey).encrypt(material, material, 0);
  slotKey.fill(0);

  const cleared = await deactivate(area, header, index);
  const slot = { ...(header.slots[index] as KeySlot), active: false, iterations, salt };
  await area.write(material, slot.materialSector * SECTOR);
  const ready = await writeSlot(area, cleared, index, slot);
  return writeSlot(area, ready, index, { ...slot, active: true });
}

/** Makes a slot inactive and destroys its key material. Returns the header as it is on disk then. */
export async function eraseSlot(
  area: WritableKeyArea,
  header: LuksHeader,
  index: number,
): Promise<LuksHeader> {
  const cleared = await deactivate(area, header, index);
  const slot = cleared.slots[index] as KeySlot;
  const garbage = new Uint8Array(materialBytes(header.keyBytes));
  randomFill(garbage);
  // Once is enough: a single stripe that is gone makes the others worthless.
  await area.write(garbage, slot.materialSector * SECTOR);
  return writeSlot(area, cleared, index, { ...slot, iterations: 0, salt: new Uint8Array(SALT_BYTES) });
}

async function deactivate(area: WritableKeyArea, header: LuksHeader, index: number): Promise<LuksHeader> {
  const slot = header.slots[index] as KeySlot;
  return slot.active ? writeSlot(area, header, index, { ...slot, active: false }) : header;
}

/** Writes the header with one slot changed; it is on disk when the promise resolves, and what was written before it. */
async function writeSlot(
  area: WritableKeyArea,
  header: LuksHeader,
  index: number,
  slot: KeySlot,
): Promise<LuksHeader> {
  const slots = header.slots.map((old, i) => (i === index ? slot : old));
  const next = { ...header, slots };
  await area.write(encodeHeader(next), 0);
  await area.flush();
  return next;
}

/** Iterations for so many milliseconds, or a part of them. @throws {DiskError} invalid */
export async function iterationsFor(
  hash: LuksHeader['hash'],
  length: number,
  iterTime: number,
  part: number,
): Promise<number> {
  const counted = Math.floor((await countIterations(hash, length, iterTime)) / part);
  if (counted > MAX_TOTAL_ITERATIONS / SLOTS)
    throw new DiskError('invalid', `${counted} iterations of PBKDF2 are more than a key slot may have`);
  return Math.max(counted, MIN_ITERATIONS);
}

/** Bytes of the key material of a slot: whole sectors. */
const materialBytes = (keyBytes: number): number => Math.ceil((keyBytes * STRIPES) / SECTOR) * SECTOR;

/** @throws {DiskError} limit if trying the slots would take too long */
export function checkIterations({ slots, digestIterations }: LuksHeader): void {
  const active = slots.filter((slot) => slot.active);
  const total = active.reduce((sum, slot) => sum + slot.iterations + digestIterations, 0);
  if (total <= MAX_TOTAL_ITERATIONS) return;
  const message = `the key slots ask for ${total} iterations of PBKDF2, more than ${MAX_TOTAL_ITERATIONS}`;
  throw new DiskError('limit', message, { spec: 'LUKS1 On-Disk Format Specification, "Key slot"' });
}
