/** luks images for the command: a disk behind a LUKS header. */
import { bitmapsBeside, withBitmapsBeside } from '@strata/bitmap';
import { DiskError, type HostFile, type HostSource } from '@strata/block';
import {
  createLuks,
  diskSize,
  type LuksPlan,
  luksFormat,
  luksFormatWith,
  planLuks,
  readLuksInfo,
} from '@strata/luks';
import type { CreationValues } from '../creation.ts';
import type { Objects } from '../objects/objects.ts';
import { passphraseOf } from '../objects/secret.ts';
import type { NodeOptions } from '../typed/node-options.ts';
import { bitmapsJson, soundBitmaps } from './bitmaps-beside.ts';
import { luksAmend } from './luks-amend.ts';
import { luksChoices, luksJson, withPassphrase } from './luks-options.ts';
import { rawSupport } from './raw.ts';
import { luksImageRows } from './rows.ts';
import type { FormatSupport, ImageFacts, NewImage } from './support.ts';

/** luks images with dirty bitmaps in a file beside them. */
const bareFormat = withBitmapsBeside(luksFormat);

export const luksSupport: FormatSupport = {
  format: bareFormat,
  rows: luksImageRows,
  configure,
  create,
  describe,
  measure: async ({ disk, values, objects }) => {
    const { plan } = wishOf(values, objects);
    const required = plan.payloadOffset + (typeof disk === 'number' ? disk : disk.size);
    return { required, fullyAllocated: required, bitmaps: undefined };
  },
  bitmaps: async (file) => soundBitmaps(file, { size: (await describe(file)).virtualSize }),
  keepsBitmaps: true,
  amend: luksAmend,
  snapshots: undefined,
  check: undefined,
  repair: undefined,
};

/** `key-secret`: what opens the disk. */
function configure(options: NodeOptions): FormatSupport {
  const id = options.text('key-secret');
  if (id === undefined) return luksSupport;
  const { objects } = options;
  const make = (passphrase: Uint8Array) => withBitmapsBeside(luksFormatWith({ passphrase }));
  return { ...luksSupport, format: withPassphrase(bareFormat, { id, objects }, make) };
}

/** What nobody has written yet deciphers to noise: a new disk does not read as zeros. */
async function create(file: HostFile, image: NewImage): Promise<boolean> {
  const { plan, passphrase } = wishOf(image.values, image.objects);
  await makeRoom(file, image, plan);
  (await createLuks(file, plan, passphrase)).fill(0);
  return false;
}

/** How a new disk is to be encrypted, and what will open it. @throws {DiskError} invalid, not-supported */
function wishOf(
  values: CreationValues,
  objects: Objects,
): { readonly plan: LuksPlan; readonly passphrase: Uint8Array } {
  const id = values.get('key-secret');
  if (id === undefined) throw new DiskError('invalid', "Parameter 'key-secret' is required for cipher");
  const passphrase = passphraseOf(objects, String(id));
  return { plan: planLuks(luksChoices(values, '')), passphrase };
}

/** A file with room for the header and the disk, its space taken as the options say. */
async function makeRoom(file: HostFile, image: NewImage, { payloadOffset }: LuksPlan): Promise<void> {
  const values = new Map(image.values);
  // Of metadata there is none but the header.
  if (values.get('preallocation') === 'metadata') values.set('preallocation', 'off');
  await rawSupport.create(file, { ...image, size: payloadOffset + image.size, values });
}

async function describe(file: HostSource): Promise<ImageFacts> {
  const info = await readLuksInfo(file);
  const virtualSize = diskSize(file, { payloadSector: info.payloadOffset / 512 });
  const bitmaps = await bitmapsJson(await bitmapsBeside(file, { size: virtualSize }));
  const specific = { ...luksJson(info), ...(bitmaps && { bitmaps }) };
  return { virtualSize, dirty: false, encrypted: true, specific };
}
