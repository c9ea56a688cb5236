/**
 * The size of a disk as QEMU counts it: in sectors of 512 bytes.
 *
 * A raw file may end inside a sector; QEMU's tools then show, convert and compare the whole sector, with zeros
 * at its end. Servers are exact: an export has the size of the file.
 */

const sector = 512;

/** `size` padded to whole sectors. */
export function inSectors(size: number): number {
  return Math.ceil(size / sector) * sector;
}

/** The start of the sector that `offset` lies in. */
export function sectorOf(offset: number): number {
  return offset - (offset % sector);
}
