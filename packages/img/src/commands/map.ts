/** `map`: which image of a chain holds which bytes, and where in its file. */
import { isDiskError } from '@strata/block';
import { tryResolve } from '@strata/chain';
import {
  allowRow,
  formatRow,
  imageOptionsRow,
  oneImage,
  outputRow,
  readSize,
  reconnectRow,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import { command } from '../command.ts';
import type { ContextWish } from '../context-map.ts';
import { objectRow } from '../objects/objects.ts';
import { openDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { emptyEntry, type MapEntry, mapHead, mapJson, mapLine, mappedSize, walkMap } from '../print/map.ts';
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
  context: {
    name: 'context',
    value: 'NAME',
    help: 'show a metadata context instead: base:allocation, qemu:allocation-depth or one of a server',
  },
  share: shareRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
  reconnect: reconnectRow,
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
  run: async ({ options: given, operands, objects }, terminal) => {
    const { allow, format, imageOptions, length, output, share, start = 0 } = given;
    const name = oneImage(operands);
    const json = wantsJson(output);
    const wish = { allow, format, share, imageOptions, objects, reconnectDelayMs: given.reconnect };
    if (given.context !== undefined) {
      return await showContext(name, { context: given.context, start, length, wish }, json, terminal);
    }
    await using chain = await openDisk(name, wish);
    const [top] = chain.images;
    const size = top ? mappedSize(top) : 0;
    const end = length === undefined ? size : Math.min(start + length, size);
    const layers = chain.images.map((image) => image.layer);
    const mapped = {
      images: chain.images,
      resolve: chain.resolve,
      tryResolve: (offset: number, limit: number) => tryResolve(layers, offset, limit),
    };
    // An export may tell of more depths than there are images here: all of them lie in it.
    const path = (depth: number): string => {
      const image = chain.images[depth] ?? chain.images.at(-1);
      return (image?.dataHost ?? image?.host)?.path ?? name;
    };
    const form = json ? jsonForm(start, terminal) : lineForm(path, terminal);
    try {
      await walkMap(mapped, start, end, form.add);
    } catch (error) {
      if (!isDiskError(error)) throw error;
      throw new CommandError(`Could not read file metadata: ${error.message}`, { cause: error });
    } finally {
      form.flush();
    }
    form.end();
    return 0;
  },
});

/** @throws {CommandError} */
async function showContext(
  name: string,
  wish: ContextWish,
  json: boolean,
  terminal: Terminal,
): Promise<number> {
  const { contextJson, contextLine, walkContext } = await import('../context-map.ts');
  const { context } = wish;
  let text = json ? '[\n' : '';
  let isFirst = true;
  try {
    await walkContext(name, wish, (entry) => {
      text += json ? `${isFirst ? '' : ',\n'}${contextJson(context, entry)}` : contextLine(context, entry);
      isFirst = false;
      if (text.length <= pieceLength) return;
      terminal.print(text);
      text = '';
    });
  } catch (error) {
    if (!isDiskError(error)) throw error;
    terminal.print(isFirst ? '' : text);
    throw new CommandError(`Could not read metadata context '${context}': ${error.message}`, {
      cause: error,
    });
  }
  terminal.print(json ? `${text}${isFirst ? '' : '\n'}]\n` : text);
  return 0;
}

/** How entries become text. */
interface Form {
  add(entry: MapEntry): void;
  /** Prints what is held back. */
  flush(): void;
  /** Prints what ends a whole map. */
  end(): void;
}

/** Text is handed on in pieces of about this many characters. */
const pieceLength = 1 << 16;

function jsonForm(start: number, terminal: Terminal): Form {
  let text = '[';
  let isFirst = true;
  const flush = (): void => {
    terminal.print(text);
    text = '';
  };
  return {
    add: (entry) => {
      text += isFirst ? mapJson(entry) : `,\n${mapJson(entry)}`;
      isFirst = false;
      if (text.length > pieceLength) flush();
    },
    flush,
    end: () => terminal.print(isFirst ? `${mapJson(emptyEntry(start))}]\n` : ']\n'),
  };
}

function lineForm(pathAt: (depth: number) => string, terminal: Terminal): Form {
  let text = mapHead;
  const flush = (): void => {
    terminal.print(text);
    text = '';
  };
  return {
    add: (entry) => {
      if (!entry.data || entry.zero) return;
      if (entry.offset === undefined) {
        throw new CommandError('File contains external, encrypted or compressed clusters.');
      }
      text += mapLine(entry, pathAt(entry.depth));
      if (text.length > pieceLength) flush();
    },
    flush,
    end: () => undefined,
  };
}
