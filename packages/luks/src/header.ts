/**
 * The header of a LUKS1 disk: decoded and judged before anything that it leads to is read.
 *
 * The rules are QEMU's, in its order and words. What it does not check it must not be led astray by: no sum
 * of two fields overflows here, and the length of a key, which bounds what is allocated, must be that of a cipher.
 *
 * Spec: LUKS1 On-Disk Format Specification 1.2.3, "Header" and "Key slot".
 */
import { DiskError } from '@strata/block';
import { type CipherSpec, familyOf, type HashName, hashNamed, modeText, parseCipher } from './algorithms.ts';
import {
  DIGEST_BYTES,
  HEADER_AREA_SECTORS,
  HEADER_BYTES,
  isLuks,
  MAGIC,
  NAME_BYTES,
  SALT_BYTES,
  SECTOR,
  SLOT_BYTES,
  SLOT_DISABLED,
  SLOT_ENABLED,
  SLOTS,
  STRIPES,
  UUID_BYTES,
  VERSION,
} from './format.ts';

/** One of the eight places for the master key, each under a passphrase of its own. */
export interface KeySlot {
  readonly active: boolean;
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** Where its key material begins, in sectors. */
  readonly materialSector: number;
  readonly stripes: number;
}

/** A valid header. */
export interface LuksHeader {
  readonly spec: CipherSpec;
  /** Bytes of the master key. */
  readonly keyBytes: number;
  /** The hash of every derivation of a key. */
  readonly hash: HashName;
  /** Where the disk begins, in sectors. */
  readonly payloadSector: number;
  readonly digest: Uint8Array;
  readonly digestSalt: Uint8Array;
  readonly digestIterations: number;
  readonly uuid: string;
  readonly slots: readonly KeySlot[];
}

const At = { mode: 40, hash: 72, payload: 104, keyBytes: 108, digest: 112, salt: 132, iterations: 164 };
const UUID_AT = 168;
const SLOTS_AT = 208;

const SPEC = 'LUKS1 On-Disk Format Specification, "Header"';
const corrupt = (message: string, offset: number): DiskError =>
  new DiskError('corrupt', message, { offset, spec: SPEC });

/**
 * The header in the first 592 of `bytes`. The result holds no views of them.
 *
 * @throws {DiskError} corrupt, not-supported
 */
export function decodeHeader(bytes: Uint8Array): LuksHeader {
  if (bytes.length < HEADER_BYTES) throw corrupt('the file ends inside the LUKS header', bytes.length);
  const head = Buffer.from(bytes.subarray(0, HEADER_BYTES));
  if (MAGIC.some((byte, index) => head[index] !== byte)) throw corrupt('Volume is not in LUKS format', 0);
  if (!isLuks(head)) {
    const message = `LUKS version ${head.readUInt16BE(6)} is not supported`;
    throw new DiskError('not-supported', message, { offset: 6, spec: SPEC });
  }
  const family = nameAt(head, 8, 'cipher name');
  const mode = nameAt(head, At.mode, 'cipher mode');
  const hash = nameAt(head, At.hash, 'hash spec');
  const payloadSector = head.readUInt32BE(At.payload);
  const keyBytes = head.readUInt32BE(At.keyBytes);
  const digestIterations = head.readUInt32BE(At.iterations);
  if (payloadSector < HEADER_AREA_SECTORS)
    throw corrupt('LUKS payload is overlapping with the header', At.payload);
  if (digestIterations === 0) throw corrupt('LUKS key iteration count is zero', At.iterations);
  const slots = decodeSlots(head, keyBytes, payloadSector);
  return {
    spec: parseCipher(family, mode, keyBytes),
    keyBytes,
    hash: hashNamed(hash),
    payloadSector,
    digest: copyOf(head, At.digest, DIGEST_BYTES),
    digestSalt: copyOf(head, At.salt, SALT_BYTES),
    digestIterations,
    uuid: textAt(head, UUID_AT, UUID_BYTES),
    slots,
  };
}

function decodeSlots(head: Buffer, keyBytes: number, payloadSector: number): readonly KeySlot[] {
  const length = materialSectors(keyBytes);
  const starts = Array.from({ length: SLOTS }, (_, i) => head.readUInt32BE(SLOTS_AT + i * SLOT_BYTES + 40));
  return starts.map((start, index) => {
    const at = SLOTS_AT + index * SLOT_BYTES;
    const state = head.readUInt32BE(at);
    const iterations = head.readUInt32BE(at + 4);
    const stripes = head.readUInt32BE(at + 44);
    const slot = `Keyslot ${index}`;
    if (stripes !== STRIPES)
      throw corrupt(`${slot} is corrupted (stripes ${stripes | 0} != ${STRIPES})`, at + 44);
    if (state !== SLOT_DISABLED && state !== SLOT_ENABLED)
      throw corrupt(`${slot} state (active/disable) is corrupted`, at);
    if (state === SLOT_ENABLED && iterations === 0) throw corrupt(`${slot} iteration count is zero`, at + 4);
    if (start < HEADER_AREA_SECTORS) throw corrupt(`${slot} is overlapping with the LUKS header`, at + 40);
    if (start + length > payloadSector)
      throw corrupt(`${slot} is overlapping with the encrypted payload`, at + 40);
    const other = starts.findIndex(
      (second, i) => i > index && start < second + length && second < start + length,
    );
    if (other >= 0) throw corrupt(`Keyslots ${index} and ${other} are overlapping in the header`, at + 40);
    return {
      active: state === SLOT_ENABLED,
      iterations,
      salt: copyOf(head, at + 8, SALT_BYTES),
      materialSector: start,
      stripes,
    };
  });
}

/** Sectors from one key slot's material to the next one's: a multiple of the header area's. */
export function materialSectors(keyBytes: number): number {
  const sectors = Math.ceil((keyBytes * STRIPES) / SECTOR);
  return Math.ceil(sectors / HEADER_AREA_SECTORS) * HEADER_AREA_SECTORS;
}

/** Where the disk begins behind a header with eight slots for such keys, in bytes. */
export function payloadOffsetFor(keyBytes: number): number {
  return (HEADER_AREA_SECTORS + SLOTS * materialSectors(keyBytes)) * SECTOR;
}

/** The header as 592 bytes. */
export function encodeHeader(header: LuksHeader): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.set(MAGIC, 0);
  head.writeUInt16BE(VERSION, 6);
  head.write(familyOf(header.spec.cipher), 8, 'latin1');
  head.write(modeText(header.spec), At.mode, 'latin1');
  head.write(header.hash, At.hash, 'latin1');
  head.writeUInt32BE(header.payloadSector, At.payload);
  head.writeUInt32BE(header.keyBytes, At.keyBytes);
  head.set(header.digest, At.digest);
  head.set(header.digestSalt, At.salt);
  head.writeUInt32BE(header.digestIterations, At.iterations);
  head.write(header.uuid, UUID_AT, UUID_BYTES, 'latin1');
  for (const [index, slot] of header.slots.entries()) {
    const at = SLOTS_AT + index * SLOT_BYTES;
    head.writeUInt32BE(slot.active ? SLOT_ENABLED : SLOT_DISABLED, at);
    head.writeUInt32BE(slot.iterations, at + 4);
    head.set(slot.salt, at + 8);
    head.writeUInt32BE(slot.materialSector, at + 40);
    head.writeUInt32BE(slot.stripes, at + 44);
  }
  return head;
}

function nameAt(head: Buffer, at: number, what: string): string {
  if (!head.subarray(at, at + NAME_BYTES).includes(0))
    throw corrupt(`LUKS header ${what} is not NUL terminated`, at);
  return textAt(head, at, NAME_BYTES);
}

/** Text up to the first NUL or the end of the field. */
function textAt(head: Buffer, at: number, length: number): string {
  const field = head.subarray(at, at + length);
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end < 0 ? length : end);
}

function copyOf(head: Buffer, at: number, length: number): Uint8Array {
  return Uint8Array.from(head.subarray(at, at + length));
}
