/** What a LUKS header tells without a passphrase. */
import { SECTOR } from './format.ts';
import { type KeyArea, readHeader } from './key-slots.ts';

/** The facts of one header, by the names of QEMU's schema. */
export interface LuksInfo {
  readonly cipherAlg: string;
  readonly cipherMode: string;
  readonly ivgenAlg: string;
  /** Only with ESSIV. */
  readonly ivgenHashAlg: string | undefined;
  readonly hashAlg: string;
  readonly payloadOffset: number;
  readonly masterKeyIters: number;
  readonly uuid: string;
  readonly slots: readonly LuksSlotInfo[];
}

/** One key slot. `iters` and `stripes` are those of a slot in use. */
export interface LuksSlotInfo {
  readonly active: boolean;
  readonly keyOffset: number;
  readonly iters: number | undefined;
  readonly stripes: number | undefined;
}

/** The facts of the header at the start of `area`. @throws {DiskError} corrupt, not-supported */
export async function readLuksInfo(area: KeyArea): Promise<LuksInfo> {
  const { spec, hash, payloadSector, digestIterations, uuid, slots } = await readHeader(area);
  return {
    cipherAlg: spec.cipher,
    cipherMode: spec.mode,
    ivgenAlg: spec.ivGenerator,
    ivgenHashAlg: spec.ivGenerator === 'essiv' ? spec.ivHash : undefined,
    hashAlg: hash,
    payloadOffset: payloadSector * SECTOR,
    masterKeyIters: digestIterations,
    uuid,
    slots: slots.map(({ active, materialSector, iterations, stripes }) => ({
      active,
      keyOffset: materialSector * SECTOR,
      iters: active ? iterations : undefined,
      stripes: active ? stripes : undefined,
    })),
  };
}
