/**
 * `bitmap`: adds, removes, clears, enables, disables, merges and renames the dirty bitmaps that an image keeps, and lists them.
 *
 * Actions are carried out in the order of the command line; the first that fails ends the command, and those before
 * it stay done.
 */
import {
  type BitmapStore,
  bitmapStoreOf,
  bitmapsOf,
  type DirtyBitmap,
  largestGranularity,
  smallestGranularity,
} from '@strata/bitmap';
import { DiskError, isDiskError } from '@strata/block';
import {
  allowRow,
  formatRow,
  imageOptionsRow,
  oneImage,
  outputRow,
  readSize,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import { command } from '../command.ts';
import { objectRow } from '../objects/objects.ts';
import { cannotOpen, openDisk, openImage, openWritableDisk, type Wish } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { changeLocks } from '../places/file.ts';
import { bitmapLines, type ListedBitmap } from '../print/bitmaps.ts';
import { formatJson } from '../print/json.ts';
import { CommandError, hintOf, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  add: { name: 'add', help: 'add BITMAP, which records from now on', inOrder: true },
  remove: { name: 'remove', help: 'remove BITMAP', inOrder: true },
  clear: { name: 'clear', help: 'make all of BITMAP clean', inOrder: true },
  enable: { name: 'enable', help: 'let BITMAP record', inOrder: true },
  disable: { name: 'disable', help: 'let BITMAP record no more', inOrder: true },
  merge: {
    name: 'merge',
    value: 'SOURCE',
    help: 'make dirty in BITMAP what is dirty in the bitmap SOURCE',
    inOrder: true,
  },
  rename: { name: 'rename', value: 'NAME', help: 'give BITMAP another name', inOrder: true },
  granularity: {
    letter: 'g',
    name: 'granularity',
    value: 'BYTES',
    help: 'of the new bitmap; the size of clusters, 4k to 64k, if not given',
    read: readSize('granularity'),
  },
  sourceFile: { letter: 'b', name: 'source-file', value: 'FILE', help: 'the image that SOURCE is in' },
  sourceFormat: { letter: 'F', name: 'source-format', value: 'FMT', help: 'format of that image' },
  list: { name: 'list', help: 'list the bitmaps of FILE, with how much of the disk is dirty' },
  output: outputRow,
  format: formatRow,
  share: shareRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
} as const satisfies OptionTable;

interface Action {
  readonly name: 'add' | 'remove' | 'clear' | 'enable' | 'disable' | 'merge' | 'rename';
  /** Of `merge`: the bitmap to take. Of `rename`: the new name. */
  readonly value: string;
}

/** The verb. */
export const bitmap = command({
  summary: 'add, change, remove or list the dirty bitmaps that an image keeps',
  operands: '(FILE BITMAP | --list FILE)',
  options,
  run: async ({ options: given, operands, inOrder, objects }, terminal) => {
    const { allow, format, imageOptions, share } = given;
    const wish: Wish = { allow, format, imageOptions, objects, backing: false };
    if (given.list) {
      if (inOrder.length > 0) throw new UsageError('--list goes with no other action', { pointToHelp: true });
      return list(oneImage(operands), { ...wish, share }, wantsJson(given.output), terminal);
    }
    const actions = inOrder.map(({ key, value }) => ({ name: key, value: String(value) }) as Action);
    checkActions(actions, given);
    const [file, name, more] = operands;
    if (file === undefined || name === undefined || more !== undefined)
      throw new UsageError('Expecting filename and bitmap name');
    await using chain = await openWritableDisk(file, { ...wish, locks: changeLocks });
    const { layer } = chain.top;
    const { sourceFile, sourceFormat } = given;
    await using source =
      sourceFile === undefined ? undefined : await openSource(sourceFile, { format: sourceFormat, objects });
    const store = bitmapStoreOf(layer);
    await store?.list().catch((error: unknown) => {
      throw cannotOpen(file, error);
    });
    const granularity = given.granularity || (store?.defaultGranularity ?? 65_536);
    let called = name;
    for (const action of actions) {
      try {
        if (store === undefined) throw noBitmaps(called);
        await act(store, called, action, granularity, (wanted) =>
          sourceBitmap(source?.layer ?? layer, wanted),
        );
      } catch (error) {
        if (!isDiskError(error)) throw error;
        const message = `Operation ${action.name} on bitmap ${called} failed: ${error.message}`;
        throw new CommandError(message, { hint: hintOf(error), cause: error });
      }
      if (action.name === 'rename') called = action.value;
    }
    return 0;
  },
});

interface Given {
  readonly granularity: number | undefined;
  readonly sourceFile: string | undefined;
  readonly sourceFormat: string | undefined;
}

function checkActions(actions: readonly Action[], { granularity, sourceFile, sourceFormat }: Given): void {
  const fail = (sentence: string): never => {
    throw new UsageError(sentence);
  };
  const names = actions.map(({ name }) => name);
  if (names.length === 0)
    fail('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  if (granularity !== undefined && !names.includes('add')) fail('granularity only supported with --add');
  if (sourceFormat !== undefined && sourceFile === undefined) fail('-F only supported with -b');
  if (sourceFile !== undefined && !names.includes('merge'))
    fail('Merge bitmap source file only supported with --merge');
}

async function act(
  store: BitmapStore,
  name: string,
  action: Action,
  granularity: number,
  sourceOf: (name: string) => Promise<DirtyBitmap>,
): Promise<void> {
  switch (action.name) {
    case 'add':
      if (granularity < smallestGranularity || granularity > largestGranularity) throw wrongGranularity();
      return store.add(name, { granularity });
    case 'remove':
      return store.remove(name);
    case 'clear':
      return store.clear(name);
    case 'enable':
    case 'disable':
      return store.setEnabled(name, action.name === 'enable');
    case 'merge': {
      // The target is judged first, as QEMU does.
      await store.load(name);
      return store.merge(name, await sourceOf(action.value));
    }
    case 'rename':
      return store.rename(name, action.value);
  }
}

/** One image by itself, whatever lies under it. */
async function openSource(name: string, wish: Omit<Wish, 'allow'>) {
  const image = await openImage(name, wish);
  try {
    const layer = await image.support.format.openSource(image.host);
    const dispose = async (): Promise<void> => {
      await layer[Symbol.asyncDispose]();
      await image[Symbol.asyncDispose]();
    };
    return { layer, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await image[Symbol.asyncDispose]();
    throw cannotOpen(name, error);
  }
}

async function sourceBitmap(image: object, name: string): Promise<DirtyBitmap> {
  const bitmaps = bitmapsOf(image);
  if (bitmaps === undefined) throw new DiskError('not-found', `Dirty bitmap '${name}' not found`);
  return bitmaps.load(name);
}

function noBitmaps(name: string): DiskError {
  return new DiskError('not-supported', `Can't store persistent bitmaps to this format: '${name}'`);
}

function wrongGranularity(): DiskError {
  return new DiskError('invalid', `Granularity must be power of 2 and at least ${smallestGranularity}`);
}

async function list(file: string, wish: Wish, json: boolean, terminal: Terminal): Promise<number> {
  await using chain = await openDisk(file, wish);
  const bitmaps = bitmapsOf(chain.images[0]?.layer ?? {});
  const listed: ListedBitmap[] = [];
  for (const facts of (await bitmaps?.list()) ?? []) {
    const count = facts.inconsistent ? undefined : (await bitmaps?.load(facts.name))?.count;
    listed.push({ ...facts, count });
  }
  terminal.print(json ? formatJson(listed.map(jsonOf)) : bitmapLines(listed));
  return 0;
}

/** In the terms of QEMU's `BlockDirtyInfo`. */
function jsonOf({ name, granularity, enabled, inconsistent, count }: ListedBitmap) {
  return {
    name,
    granularity,
    recording: enabled,
    inconsistent: inconsistent || undefined,
    persistent: true,
    count,
  };
}
