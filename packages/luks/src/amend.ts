/**
 * Changing the passphrases of a disk: adding one, and erasing slots, with QEMU's rules and sentences.
 *
 * What would leave nobody able to open the disk is refused unless it is forced.
 */
import { DiskError } from '@strata/block';
import { SLOTS } from './format.ts';
import type { LuksHeader } from './header.ts';
import {
  checkIterations,
  eraseSlot,
  openSlot,
  readHeader,
  STANDARD_ITER_TIME,
  storeKey,
  unlock,
  type WritableKeyArea,
} from './key-slots.ts';

/** A change of the key slots. */
export type KeyChange =
  | {
      readonly state: 'active';
      /** One that opens the disk now. */
      readonly passphrase: Uint8Array;
      readonly newPassphrase: Uint8Array;
      /** The first that is free if not given. */
      readonly slot?: number | undefined;
      readonly iterTime?: number | undefined;
      /** Overwrites a slot that is in use. */
      readonly force?: boolean;
    }
  | {
      readonly state: 'inactive';
      /** Erases the slots that it opens, or makes sure that it opens the one that is named. */
      readonly oldPassphrase?: Uint8Array | undefined;
      readonly slot?: number | undefined;
      /** Erases the last slot too. */
      readonly force?: boolean;
    };

const invalid = (message: string): DiskError => new DiskError('invalid', message);

/**
 * Makes the change; it is on disk when the promise resolves.
 *
 * @throws {DiskError} denied, invalid, limit, not-supported, and what the area throws
 */
export async function changeKeys(area: WritableKeyArea, change: KeyChange): Promise<void> {
  const header = await readHeader(area);
  if (change.slot !== undefined && !(change.slot >= 0 && change.slot < SLOTS))
    throw invalid(`Invalid keyslot ${change.slot} specified, must be between 0 and ${SLOTS - 1}`);
  if (change.state === 'active') await addKey(area, header, change);
  else await eraseKeys(area, header, change);
}

async function addKey(
  area: WritableKeyArea,
  header: LuksHeader,
  change: Extract<KeyChange, { state: 'active' }>,
): Promise<void> {
  const index = change.slot ?? header.slots.findIndex((slot) => !slot.active);
  if (index < 0) throw invalid("Can't add a keyslot - all keyslots are in use");
  if (header.slots[index]?.active === true && change.force !== true)
    throw invalid(`Refusing to overwrite active keyslot ${index} - please erase it first`);
  const key = await unlock(area, header, change.passphrase);
  try {
    const iterTime = change.iterTime ?? STANDARD_ITER_TIME;
    await storeKey(area, header, index, key, change.newPassphrase, iterTime);
  } finally {
    key.fill(0);
  }
}

async function eraseKeys(
  area: WritableKeyArea,
  header: LuksHeader,
  change: Extract<KeyChange, { state: 'inactive' }>,
): Promise<void> {
  let left = header;
  for (const index of await slotsToErase(area, header, change)) left = await eraseSlot(area, left, index);
}

async function slotsToErase(
  area: WritableKeyArea,
  header: LuksHeader,
  { slot, oldPassphrase, force = false }: Extract<KeyChange, { state: 'inactive' }>,
): Promise<readonly number[]> {
  const active = header.slots.filter((one) => one.active).length;
  if (slot !== undefined) {
    if (oldPassphrase !== undefined && (await opened(area, header, oldPassphrase, [slot])).length === 0)
      throw invalid(`Given keyslot ${slot} doesn't contain the given old password for erase operation`);
    if (!force && header.slots[slot]?.active !== true)
      throw invalid(`Given keyslot ${slot} is already erased (inactive) `);
    if (!force && active === 1)
      throw invalid(
        `Attempt to erase the only active keyslot ${slot} which will erase all the data in the image irreversibly - refusing operation`,
      );
    return [slot];
  }
  if (oldPassphrase === undefined)
    throw invalid(
      'To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given',
    );
  const found = await opened(area, header, oldPassphrase, [...header.slots.keys()]);
  if (found.length === 0) throw invalid('No keyslots match given (old) password for erase operation');
  if (!force && found.length === active)
    throw invalid(
      'All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly - refusing operation',
    );
  return found;
}

/** Which of the slots the passphrase opens. */
async function opened(
  area: WritableKeyArea,
  header: LuksHeader,
  passphrase: Uint8Array,
  slots: readonly number[],
): Promise<readonly number[]> {
  checkIterations(header);
  const found: number[] = [];
  for (const index of slots) {
    const slot = header.slots[index];
    const key = slot && (await openSlot(area, header, slot, passphrase));
    if (key === undefined) continue;
    key.fill(0);
    found.push(index);
  }
  return found;
}
