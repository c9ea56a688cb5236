/**
 * `dd`: copies blocks of a disk into a new image, with the operands of the program of that name.
 *
 * As in qemu-img, `count` counts from the start of the input and not from where `skip` leads, and everything is
 * written out, zeros too.
 */
import { isDiskError, sourceWindow } from '@strata/block';
import { allowRow, formatRow, imageOptionsRow, readSize, shareRow } from '../arguments.ts';
import { command } from '../command.ts';
import { copyAll } from '../copying.ts';
import { supportNamed } from '../known-formats.ts';
import { makeImage } from '../make.ts';
import { objectRow } from '../objects/objects.ts';
import { foldersOf, openDisk, openingHint, openWritableDisk, paddedDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { copyLocks } from '../places/file.ts';
import { CommandError, complain, UsageError } from '../report.ts';

const options = {
  format: { ...formatRow, help: 'format of the input; without it the first bytes tell' },
  outputFormat: { letter: 'O', value: 'FMT', help: 'format of the output; raw if not given' },
  share: shareRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: { ...imageOptionsRow, help: 'INPUT is a list of image options and not a name' },
} as const satisfies OptionTable;

const largestBlock = 2 ** 31 - 1;

/** The operands, read. */
interface Operands {
  input?: string;
  output?: string;
  block: number;
  count?: number;
  skip: number;
}

/** The verb. */
export const dd = command({
  summary: 'copy blocks of a disk into a new image',
  operands: 'if=INPUT of=OUTPUT [bs=SIZE] [count=BLOCKS] [skip=BLOCKS]',
  options,
  threads: () => 'copying',
  notes: [
    'A block has 512 bytes if bs does not say otherwise. count counts from the start of the\n',
    'input: of count=3 skip=2, one block is copied.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const { block, count, input, output, skip } = readOperands(operands);
    if (input === undefined || output === undefined) {
      throw new UsageError('Must specify both input and output files');
    }
    const { format, imageOptions, outputFormat = 'raw', share } = given;
    const allow = [...given.allow, ...foldersOf([input], given)];
    const wish = { allow, format, share, imageOptions, objects, locks: copyLocks };
    await using chain = await openDisk(input, wish);
    const support = supportNamed(outputFormat);
    if (!support) throw new CommandError('Unknown file format');
    const disk = paddedDisk(chain);
    const end = Math.min(disk.size, count === undefined ? disk.size : count * block);
    const start = Math.min(skip * block, end);
    if (skip * block > end) complain(terminal, `${input}: cannot skip to specified offset`);
    const size = end - start;
    try {
      const values = new Map([['size', size]]);
      await makeImage(output, support, { size, backing: undefined, values, objects });
    } catch (error) {
      if (!isDiskError(error)) throw error;
      const message = `${output}: error while creating output image: ${error.message}`;
      throw new CommandError(message, { hint: openingHint(error), cause: error });
    }
    await using target = await openWritableDisk(output, { allow, format: outputFormat, objects });
    const part = sourceWindow(disk, start, size);
    await copyAll([part], target.device, { zeroFrom: size, sparse: 0, progress: () => undefined });
    await target.device.flush();
    return 0;
  },
});

const readers: Readonly<Record<string, (operands: Operands, text: string) => void>> = {
  if: (operands, text) => {
    operands.input = text;
  },
  of: (operands, text) => {
    operands.output = text;
  },
  bs: (operands, text) => {
    const block = readSize('bs')(text);
    if (block < 1 || block > largestBlock) {
      throw new UsageError(`Invalid bs specified. Must be between 1 and ${largestBlock}.`);
    }
    operands.block = block;
  },
  count: (operands, text) => {
    operands.count = readSize('count')(text);
  },
  skip: (operands, text) => {
    operands.skip = readSize('skip')(text);
  },
};

function readOperands(words: readonly string[]): Operands {
  const operands: Operands = { block: 512, skip: 0 };
  for (const word of words) {
    const [, name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
    const read = value !== undefined && Object.hasOwn(readers, name) ? readers[name] : undefined;
    if (value === undefined || !read) throw new UsageError(`unrecognized operand ${name}`);
    read(operands, value);
  }
  return operands;
}
