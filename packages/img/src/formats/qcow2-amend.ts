/** Amending qcow2 images for the command: options of `-o` into changes of the library. */
import { DiskError } from '@strata/block';
import type { WritableChain } from '@strata/chain';
import { type AmendChanges, amendQcow2, changeImageKeys, readInfo } from '@strata/qcow2';
import type { CreationValues } from '../creation.ts';
import { keyChangeOf } from './luks-amend.ts';
import { keySecretOf } from './luks-options.ts';
import { qcow2AmendRows } from './rows.ts';
import type { AmendSupport } from './support.ts';

export const qcow2Amend: AmendSupport = {
  rows: qcow2AmendRows,
  run: async (open, values, how) => {
    const changes = changesOf(values);
    const keys = [...values.keys()].filter((name) => name.startsWith('encrypt.'));
    if (keys.length > 0)
      await withHost(open, async ({ host }) => checkLuks((await readInfo(host)).encryption));
    const target = async () => {
      const chain = await open();
      const { host, layer } = chain.top;
      return { host, layer, below: chain.below, [Symbol.asyncDispose]: () => chain[Symbol.asyncDispose]() };
    };
    if (keys.length < values.size) await amendQcow2(target, changes, how.progress);
    // At last: the passphrase that opens the image may be among those that are erased.
    if (keys.length > 0)
      await withHost(open, ({ format, host }) =>
        changeImageKeys(host, keyChangeOf(values, 'encrypt.', how, keySecretOf(format))),
      );
  },
};

async function withHost(
  open: () => Promise<WritableChain>,
  work: (top: WritableChain['top']) => Promise<void>,
): Promise<void> {
  await using chain = await open();
  await work(chain.top);
}

const versions: Readonly<Record<string, 2 | 3>> = { '0.10': 2, v2: 2, '1.1': 3, v3: 3 };

/** @throws {DiskError} invalid */
function changesOf(values: CreationValues): AmendChanges {
  const compat = values.get('compat');
  const version = compat === undefined ? undefined : versions[String(compat)];
  if (compat !== undefined && version === undefined)
    throw new DiskError('invalid', `Unknown compatibility level ${compat}`);
  const number = (name: string): number | undefined => {
    const value = values.get(name);
    return value === undefined ? undefined : Number(value);
  };
  const text = (name: string): string | undefined => {
    const value = values.get(name);
    return value === undefined ? undefined : String(value);
  };
  const onOff = (name: string): boolean | undefined => {
    const value = values.get(name);
    return value === undefined ? undefined : value === true;
  };
  return {
    version,
    refcountBits: number('refcount_bits'),
    lazyRefcounts: onOff('lazy_refcounts'),
    dataFileRaw: onOff('data_file_raw'),
    dataFile: text('data_file'),
    size: number('size'),
    backingName: text('backing_file'),
    backingFormat: text('backing_fmt'),
  };
}

/** @throws {DiskError} invalid, not-supported if the image has no key slots */
function checkLuks(encryption: 'aes' | 'luks' | undefined): void {
  if (encryption === undefined)
    throw new DiskError('invalid', "Can't amend encryption options - encryption not present");
  if (encryption === 'aes')
    throw new DiskError('not-supported', 'Only LUKS encryption options can be amended');
}
