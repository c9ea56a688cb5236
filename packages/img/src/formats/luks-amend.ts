/** Adding and erasing passphrases with `amend`: options of `-o` into a change of key slots, for luks and for qcow2. */

import { beforeOtherChanges } from '@strata/bitmap';
import { DiskError } from '@strata/block';
import { changeKeys, type KeyChange } from '@strata/luks';
import type { CreationValues } from '../creation.ts';
import { passphraseOf } from '../objects/secret.ts';
import { keyRows, keySecretOf } from './luks-options.ts';
import type { AmendHow, AmendSupport } from './support.ts';

type Prefix = '' | 'encrypt.';

/** luks images have nothing else that can be changed. */
export const luksAmend: AmendSupport = {
  rows: keyRows(''),
  run: async (open, values, how) => {
    await using chain = await open();
    const { format, host, layer } = chain.top;
    await beforeOtherChanges(layer);
    await changeKeys(host, keyChangeOf(values, '', how, keySecretOf(format)));
  },
};

/**
 * What the options ask for. `opened` is the id of the secret that the image was opened with.
 *
 * @throws {DiskError} invalid, in the words of QEMU
 */
export function keyChangeOf(
  values: CreationValues,
  prefix: Prefix,
  { objects, force }: AmendHow,
  opened: string | undefined,
): KeyChange {
  const invalid = (message: string): DiskError => new DiskError('invalid', message);
  const number = (name: string): number | undefined => {
    const value = values.get(`${prefix}${name}`);
    return value === undefined ? undefined : Number(value);
  };
  const secret = (name: string): Uint8Array | undefined => {
    const id = values.get(`${prefix}${name}`);
    return id === undefined ? undefined : passphraseOf(objects, String(id));
  };
  const has = (name: string): boolean => values.has(`${prefix}${name}`);
  const state = values.get(`${prefix}state`);
  const slot = number('keyslot');
  switch (state) {
    case 'active': {
      if (!has('new-secret')) throw invalid("'new-secret' is required to activate a keyslot");
      if (has('old-secret')) throw invalid("'old-secret' must not be given when activating keyslots");
      const newPassphrase = secret('new-secret');
      if (opened === undefined || newPassphrase === undefined)
        throw invalid(`Parameter '${prefix}key-secret' is required for cipher`);
      const passphrase = passphraseOf(objects, opened);
      return { state, passphrase, newPassphrase, slot, iterTime: number('iter-time'), force };
    }
    case 'inactive':
      if (has('new-secret')) throw invalid("'new-secret' must not be given when erasing keyslots");
      if (has('iter-time')) throw invalid("'iter-time' must not be given when erasing keyslots");
      return { state, oldPassphrase: secret('old-secret'), slot, force };
    case undefined:
      throw invalid("Parameter 'state' is missing");
    default:
      throw invalid(`Parameter 'state' does not accept value '${state}'`);
  }
}
