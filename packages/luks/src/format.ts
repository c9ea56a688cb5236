/**
 * The numbers of LUKS1, and the limits that we share with QEMU.
 *
 * Spec: LUKS1 On-Disk Format Specification 1.2.3, "Header".
 */

/** `LUKS\xba\xbe`, the first six bytes. */
export const MAGIC: Uint8Array = Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe);
export const VERSION = 1;

/** Offsets in the header, and the unit of encryption: every sector is enciphered by itself. */
export const SECTOR = 512;

/** Bytes of the fixed header, key slots included. */
export const HEADER_BYTES = 592;
/** Sectors before the first key material: the header, and room to align it. */
export const HEADER_AREA_SECTORS = 8;

export const NAME_BYTES = 32;
export const DIGEST_BYTES = 20;
export const SALT_BYTES = 32;
export const UUID_BYTES = 40;

export const SLOTS = 8;
export const SLOT_BYTES = 48;
/** QEMU knows this count only, and so does everybody who writes LUKS1. */
export const STRIPES = 4000;

export const SLOT_ENABLED = 0x00ac71f3;
export const SLOT_DISABLED = 0x0000dead;

/** The fewest iterations that are written. */
export const MIN_ITERATIONS = 1000;
/**
 * Iterations of all key slots of one header together: about five minutes at 4 million a second. A header that asks for
 * more would keep whoever opens it busy for hours.
 */
export const MAX_TOTAL_ITERATIONS = 2 ** 30;

/** True if the first bytes of a file are those of a LUKS1 header. */
export function isLuks(head: Uint8Array): boolean {
  if (head.length < 8 || MAGIC.some((byte, index) => head[index] !== byte)) return false;
  return head[6] === 0 && head[7] === VERSION;
}
