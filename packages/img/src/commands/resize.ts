/** `resize`: makes a disk larger or smaller. */
import { type Preallocation, parseSize } from '@strata/block';
import { allowRow, formatRow, imageOptionsRow, quietRow } from '../arguments.ts';
import { command } from '../command.ts';
import { inSectors } from '../disk-size.ts';
import { objectRow } from '../objects/objects.ts';
import { openWritableDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { changeLocks } from '../places/file.ts';
import { CommandError, UsageError } from '../report.ts';

const modes: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

const options = {
  format: formatRow,
  preallocation: {
    name: 'preallocation',
    value: 'off|metadata|falloc|full',
    help: 'how the space of what is added is had',
    read: readPreallocation,
  },
  shrink: { name: 'shrink', help: 'allow a smaller size: what lies behind it is lost' },
  quiet: quietRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
} as const satisfies OptionTable;

/** The verb. */
export const resize = command({
  summary: 'make a disk larger or smaller',
  operands: 'FILE [+|-]SIZE',
  endsWithOperand: true,
  options,
  notes: [
    'SIZE is in bytes, or takes a suffix: k, M, G, T, P or E, powers of 1024. With + or -\n',
    'it is added to what the disk has, or taken away.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    if (operands.length < 2) throw new UsageError('Not enough arguments', { pointToHelp: true });
    const [name, text, extra] = operands as [string, string, ...string[]];
    if (extra !== undefined)
      throw new UsageError('Expecting image file name and size', { pointToHelp: true });
    const change = readChange(text);
    const { allow, format, imageOptions, preallocation = 'off', quiet, shrink } = given;
    await using chain = await openWritableDisk(name, {
      allow,
      format,
      imageOptions,
      objects,
      locks: changeLocks,
    });
    const { layer } = chain.top;
    const current = inSectors(layer.size);
    const size = change.relativeTo(current);
    if (size <= 0) throw new CommandError('New image size must be positive');
    if (size > Number.MAX_SAFE_INTEGER)
      throw new CommandError(`New image size must be at most ${Number.MAX_SAFE_INTEGER}`);
    if (size <= current && preallocation !== 'off')
      throw new CommandError('Preallocation can only be used for growing images');
    if (size < current && !shrink) throw new CommandError(refusal, { hint: warning });
    await layer.resize(size, chain.below(size), { preallocation });
    if (!quiet) terminal.print('Image resized.\n');
    return 0;
  },
});

const refusal = 'Use the --shrink option to perform a shrink operation.';
const warning =
  "img: warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an operation, make sure there is no important data there.\n";

function readPreallocation(text: string): Preallocation {
  const mode = modes.find((known) => known === text);
  if (mode === undefined) throw new CommandError(`Invalid preallocation mode '${text}'`);
  return mode;
}

/** A size, or a difference. @throws {CommandError} */
function readChange(text: string): { relativeTo(current: number): number } {
  const sign = text.startsWith('+') ? 1 : text.startsWith('-') ? -1 : 0;
  const amount = parseSize(sign === 0 ? text : text.slice(1));
  if (typeof amount === 'number')
    return { relativeTo: (current) => (sign === 0 ? amount : current + sign * amount) };
  if (amount === 'out of range') return { relativeTo: () => (sign < 0 ? -1 : Number.POSITIVE_INFINITY) };
  throw new CommandError("Parameter 'size' expects a non-negative number below 2^64", {
    hint: 'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.\n',
  });
}
