/** What the options of `-o` say of encryption, and what a LUKS header says to `info`: the same for luks and for qcow2. */
import { DiskError, type ImageFormat } from '@strata/block';
import type { LuksChoices, LuksInfo } from '@strata/luks';
import type { CreationRow, CreationValues } from '../creation.ts';
import type { Objects } from '../objects/objects.ts';
import { passphraseOf } from '../objects/secret.ts';
import type { JsonObject } from '../print/json.ts';

const texts = [
  ['cipher-alg', 'Name of encryption cipher algorithm'],
  ['cipher-mode', 'Name of encryption cipher mode'],
  ['ivgen-alg', 'Name of IV generator algorithm'],
  ['ivgen-hash-alg', 'Name of IV generator hash algorithm'],
  ['hash-alg', 'Name of encryption hash algorithm'],
] as const;

/** The rows of the options, each name behind `prefix`, in the order of the `Formatting` line. */
export function luksRows(prefix: '' | 'encrypt.'): readonly CreationRow[] {
  return [
    ...texts.map(([name, help]) => ({ name: `${prefix}${name}`, type: 'text', help }) as const),
    { name: `${prefix}iter-time`, type: 'number', help: 'Time to spend in PBKDF in milliseconds' },
  ];
}

/** What `amend` can be told of key slots, each name behind `prefix`. */
export function keyRows(prefix: '' | 'encrypt.'): readonly CreationRow[] {
  const rows: readonly CreationRow[] = [
    { name: 'state', type: 'text', help: 'Select new state of affected keyslots (active/inactive)' },
    { name: 'keyslot', type: 'number', help: 'Select a single keyslot to modify explicitly' },
    { name: 'old-secret', type: 'text', help: 'Select all keyslots that match this password' },
    {
      name: 'new-secret',
      type: 'text',
      help: 'New secret to set in the matching keyslots. Empty string to erase',
    },
    { name: 'iter-time', type: 'number', help: 'Time to spend in PBKDF in milliseconds' },
  ];
  return rows.map((row) => ({ ...row, name: `${prefix}${row.name}` }));
}

/** How a new disk is to be encrypted. @throws {DiskError} invalid */
export function luksChoices(values: CreationValues, prefix: '' | 'encrypt.'): LuksChoices {
  const text = (name: string): string | undefined => {
    const value = values.get(`${prefix}${name}`);
    return value === undefined ? undefined : String(value);
  };
  const iterTime = values.get(`${prefix}iter-time`);
  if (typeof iterTime === 'number' && iterTime < 0)
    throw new DiskError('invalid', `Parameter '${prefix}iter-time' expects a number that is not negative`);
  return {
    cipherAlg: text('cipher-alg'),
    cipherMode: text('cipher-mode'),
    ivgenAlg: text('ivgen-alg'),
    ivgenHashAlg: text('ivgen-hash-alg'),
    hashAlg: text('hash-alg'),
    iterTime: iterTime === undefined ? undefined : Number(iterTime),
  };
}

/** Where a format keeps the id of the secret that opens its images. */
const keySecret = Symbol('key secret');

/**
 * `format` as `make` makes it of the passphrase that the secret `id` holds. The secret is looked for when an image
 * is opened, and not by what needs none.
 */
export function withPassphrase(
  format: ImageFormat,
  { id, objects }: { readonly id: string; readonly objects: Objects },
  make: (passphrase: Uint8Array) => ImageFormat,
): ImageFormat {
  const made = (): ImageFormat => make(passphraseOf(objects, id));
  const late: ImageFormat & { readonly [keySecret]: string } = {
    ...format,
    [keySecret]: id,
    openSource: async (file, options) => made().openSource(file, options),
    open: async (file, options) => made().open(file, options),
  };
  return late;
}

/** The id of the secret that opens images of a format; undefined if none does. */
export function keySecretOf(format: ImageFormat): string | undefined {
  return (format as { readonly [keySecret]?: string })[keySecret];
}

/** A header's facts, in the order of QEMU's schema. */
export function luksJson(info: LuksInfo): JsonObject {
  return {
    'cipher-alg': info.cipherAlg,
    'cipher-mode': info.cipherMode,
    'ivgen-alg': info.ivgenAlg,
    'ivgen-hash-alg': info.ivgenHashAlg,
    'hash-alg': info.hashAlg,
    'payload-offset': info.payloadOffset,
    'master-key-iters': info.masterKeyIters,
    uuid: info.uuid,
    slots: info.slots.map(({ active, keyOffset, iters, stripes }) => ({
      active,
      iters,
      stripes,
      'key-offset': keyOffset,
    })),
  };
}
