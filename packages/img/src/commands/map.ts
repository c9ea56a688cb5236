/** `map`: which image of a chain holds which bytes, and where in its file. */
import { isDiskError } from '@strata/block';
import { tryResolve } from '@strata/chain';
import {
  allowRow,
  formatRow,
  laterRow,
  oneImage,
  outputRow,
  readSize,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import { command } from '../command.ts';
import { openDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import {
  emptyEntry,
  type MapEntry,
  mapEntries,
  mapHead,
  mapJson,
  mapLine,
  mappedSize,
} from '../print/map.ts';
import { CommandError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  format: { ...formatRow, name: 'format' },
  output: outputRow,
  start: {
    letter: 's',
    name: 'start-offset',
    value: 'OFFSET',
    help: 'where to begin',
    read: readSize('start offset'),
  },
  length: {
    letter: 'l',
    name: 'max-length',
    value: 'LENGTH',
    help: 'how much to show',
    read: readSize('max length'),
  },
  share: shareRow,
  allow: allowRow,
  object: laterRow({ name: 'object', value: 'OBJDEF', help: 'define an object, such as a secret' }),
  imageOptions: laterRow({ name: 'image-opts', help: 'FILE is a list of image options' }),
} as const satisfies OptionTable;

/** The verb. */
export const map = command({
  summary: 'show which image of a chain holds which bytes',
  operands: 'FILE',
  options,
  notes: [
    'Depth 0 is the image itself, 1 its backing file, and so on. An export that offers\n',
    'qemu:allocation-depth is shown with the depths of the chain behind it.\n',
  ].join(''),
  run: async ({ options: { allow, format, length, output, share, start = 0 }, operands }, terminal) => {
    const name = oneImage(operands);
    const json = wantsJson(output);
    await using chain = await openDisk(name, { allow, format, share });
    const [top] = chain.images;
    const size = top ? mappedSize(top) : 0;
    const end = length === undefined ? size : Math.min(start + length, size);
    const layers = chain.images.map((image) => image.layer);
    const mapped = {
      images: chain.images,
      resolve: chain.resolve,
      tryResolve: (offset: number, limit: number) => tryResolve(layers, offset, limit),
    };
    const entries = mapEntries(mapped, start, end);
    if (json) await printJson(entries, start, terminal);
    else await printLines(entries, (depth) => chain.images[depth]?.host.path ?? name, terminal);
    return 0;
  },
});

/** Text is handed on in pieces of about this many characters. */
const pieceLength = 1 << 16;

async function printJson(entries: AsyncIterable<MapEntry>, start: number, terminal: Terminal): Promise<void> {
  let text = '[';
  let any = false;
  for await (const entry of readable(entries)) {
    text += any ? `,\n${mapJson(entry)}` : mapJson(entry);
    any = true;
    if (text.length > pieceLength) {
      terminal.print(text);
      text = '';
    }
  }
  terminal.print(`${text}${any ? '' : mapJson(emptyEntry(start))}]\n`);
}

async function printLines(
  entries: AsyncIterable<MapEntry>,
  pathAt: (depth: number) => string,
  terminal: Terminal,
): Promise<void> {
  let text = mapHead;
  try {
    for await (const entry of readable(entries)) {
      if (!entry.data || entry.zero) continue;
      if (entry.offset === undefined) {
        throw new CommandError('File contains external, encrypted or compressed clusters.');
      }
      text += mapLine(entry, pathAt(entry.depth));
      if (text.length > pieceLength) {
        terminal.print(text);
        text = '';
      }
    }
  } finally {
    terminal.print(text);
  }
}

/** The entries, until the images cannot tell any more. */
async function* readable(entries: AsyncIterable<MapEntry>): AsyncGenerator<MapEntry, void, undefined> {
  try {
    yield* entries;
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(`Could not read file metadata: ${error.message}`, { cause: error });
  }
}
