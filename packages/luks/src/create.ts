/**
 * A new LUKS1 disk: a random master key, a header that knows it by its digest, and one slot for a passphrase.
 */
import {
  type CipherSpec,
  type CipherWish,
  chooseCipher,
  chooseHash,
  type HashName,
  keyBytesOf,
} from './algorithms.ts';
import { newUuid, randomFill } from './derive.ts';
import { DIGEST_BYTES, HEADER_AREA_SECTORS, SALT_BYTES, SECTOR, SLOTS, STRIPES } from './format.ts';
import { encodeHeader, type LuksHeader, materialSectors, payloadOffsetFor } from './header.ts';
import { digestOf, iterationsFor, STANDARD_ITER_TIME, storeKey, type WritableKeyArea } from './key-slots.ts';
import { checkCipher } from './sector-cipher.ts';

/** What a new disk is to be, by the names of qemu-img's options, and its first passphrase. */
export interface LuksChoices extends CipherWish {
  readonly hashAlg?: string | undefined;
  /** How long deriving a key takes, in milliseconds; 2000 if not given. */
  readonly iterTime?: number | undefined;
}

/** How a new disk is laid out. */
export interface LuksPlan {
  readonly spec: CipherSpec;
  readonly hash: HashName;
  readonly iterTime: number;
  /** Bytes of the header and all key material: where the disk begins. */
  readonly payloadOffset: number;
}

/** What the choices come to. @throws {DiskError} invalid, not-supported */
export function planLuks(choices: LuksChoices): LuksPlan {
  const spec = chooseCipher(choices);
  const hash = chooseHash(choices.hashAlg);
  checkCipher(spec);
  const iterTime = choices.iterTime ?? STANDARD_ITER_TIME;
  return { spec, hash, iterTime, payloadOffset: payloadOffsetFor(keyBytesOf(spec)) };
}

/**
 * Writes the header and the first key slot into `area`, which is as long as the plan says. They are on disk
 * when the promise resolves. Returns the master key, which the caller zeroes after use.
 *
 * @throws {DiskError} invalid, and what the area throws
 */
export async function createLuks(
  area: WritableKeyArea,
  { spec, hash, iterTime, payloadOffset }: LuksPlan,
  passphrase: Uint8Array,
): Promise<Uint8Array> {
  const keyBytes = keyBytesOf(spec);
  const key = new Uint8Array(keyBytes);
  const digestSalt = new Uint8Array(SALT_BYTES);
  randomFill(key);
  randomFill(digestSalt);
  try {
    // Knowing the key again takes an eighth of the time, since that is done for every slot that is tried.
    const digestIterations = await iterationsFor(hash, DIGEST_BYTES, iterTime, 8);
    const parts = { hash, digestSalt, digestIterations, digest: new Uint8Array(DIGEST_BYTES) };
    const header: LuksHeader = {
      ...parts,
      digest: await digestOf(parts, key),
      spec,
      keyBytes,
      payloadSector: payloadOffset / SECTOR,
      uuid: newUuid(),
      slots: Array.from({ length: SLOTS }, (_, index) => ({
        active: false,
        iterations: 0,
        salt: new Uint8Array(SALT_BYTES),
        materialSector: HEADER_AREA_SECTORS + index * materialSectors(keyBytes),
        stripes: STRIPES,
      })),
    };
    await area.write(encodeHeader(header), 0);
    await storeKey(area, header, 0, key, passphrase, iterTime);
  } catch (error) {
    key.fill(0);
    throw error;
  }
  return key;
}
