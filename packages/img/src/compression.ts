/** Writing compressed images: the level that a line asks for, and what does not go with compression. */
import { type BlockDevice, isDiskError } from '@strata/block';
import { compressingDevice, type WritableChain } from '@strata/chain';
import type { CreationValues } from './creation.ts';
import type { OptionRow } from './options.ts';
import { CommandError, UsageError } from './report.ts';

/** The highest level of zstd; zlib ends at 9. */
const strongest = 19;

/** The option row of the level. */
export const levelRow = {
  name: 'compression-level',
  value: 'N',
  help: 'with -c: 1 (fast) to 9, or to 19 with zstd; if not given one that is fast, for files hardly larger than qemu-img makes',
  read: (text: string): number => {
    const level = Number(text);
    if (/^\d+$/.test(text) && level >= 1 && level <= strongest) return level;
    throw new UsageError(`Invalid compression level. Allowed levels are between 1 and ${strongest}`);
  },
} as const satisfies OptionRow;

/**
 * Judges the creation options of a target that is to be compressed; empty for one that is there already.
 *
 * @throws {CommandError} in the order in which qemu-img looks for what does not go together
 */
export function refuseCompression(format: string, values: CreationValues): void {
  if (format === 'raw') throw new CommandError('Compression not supported for this file format');
  const isEncrypted = values.get('encryption') === true || values.has('encrypt.format');
  const other = isEncrypted ? 'encryption' : 'preallocation';
  if (isEncrypted || (values.get('preallocation') ?? 'off') !== 'off')
    throw new CommandError(`Compression and ${other} not supported at the same time`);
}

/** The disk of a target, which compresses what it is given. @throws {CommandError} */
export function compressing(target: WritableChain, level: number | undefined): BlockDevice {
  try {
    return compressingDevice(target, { level });
  } catch (error) {
    throw isDiskError(error) ? new CommandError(error.message, { cause: error }) : error;
  }
}
