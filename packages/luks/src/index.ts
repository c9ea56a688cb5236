/** LUKS1: encrypted disks, alone in a file or inside another image. */
export { type CipherSpec, type CipherWish, hashNamed } from './algorithms.ts';
export { changeKeys, type KeyChange } from './amend.ts';
export { createLuks, type LuksChoices, type LuksPlan, planLuks } from './create.ts';
export { clearFile, clearSource, type Encrypted } from './encrypted-host.ts';
export { isLuks } from './format.ts';
export { type LuksInfo, type LuksSlotInfo, readLuksInfo } from './info.ts';
export { type KeyArea, openLuks, type WritableKeyArea } from './key-slots.ts';
export { diskSize, type LuksOptions, luksFormat, luksFormatWith } from './layer.ts';
export { type SectorCipher, sectorCipher } from './sector-cipher.ts';
