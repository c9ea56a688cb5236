/** The commands that are about exports, in the words of QEMU's two generations of them. */
import {
  choice,
  command,
  commandOf,
  flag,
  list,
  optional,
  type QmpCommand,
  refusal,
  text,
  union,
} from '@strata/qmp';
import { bitmapReference } from './bitmap-actions.ts';
import type { Steering } from './steering.ts';

const removal = optional(choice('safe', 'hard'));

/** Of every kind of export, of which there is one. */
const common = {
  id: text,
  'fixed-iothread': optional(flag),
  iothread: optional(text),
  'node-name': text,
  writable: optional(flag),
  writethrough: optional(flag),
};

const kinds = {
  nbd: {
    name: optional(text),
    description: optional(text),
    bitmaps: optional(list(bitmapReference)),
    'allocation-depth': optional(flag),
  },
};

/** Adding, removing and listing exports. */
export function exportCommands({ exports, graph }: Steering): readonly QmpCommand[] {
  const remove = async (id: string, mode: 'safe' | 'hard' = 'safe'): Promise<undefined> => {
    await exports.remove(id, mode);
  };
  return [
    command('query-block-exports', {}, () => exports.list()),
    commandOf('block-export-add', union('type', common, kinds), async (given) => {
      const { id, name, bitmaps = [], description } = given;
      exports.checkId(id);
      const at = graph.find(given['node-name']);
      if (at === undefined) throw refusal(`Cannot find device='' nor node-name='${given['node-name']}'`);
      const { iothread, writable = false, writethrough = false } = given;
      if (iothread !== undefined) throw refusal(`iothread "${iothread}" not found`);
      const depth = given['allocation-depth'] ?? false;
      const wish = { id, at, description, writable, writethrough, bitmaps, allocationDepth: depth };
      await exports.add({ ...wish, name: name ?? given['node-name'] });
      return undefined;
    }),
    command('block-export-del', { id: text, mode: removal }, ({ id, mode }) => remove(id, mode)),
    command(
      'nbd-server-add',
      {
        device: text,
        name: optional(text),
        description: optional(text),
        writable: optional(flag),
        bitmap: optional(text),
      },
      async ({ device, name = device, description, writable = false, bitmap }) => {
        const at = graph.get(device);
        exports.checkId(name);
        const bitmaps = bitmap === undefined ? [] : [bitmap];
        const about = { id: name, at, name, description, bitmaps };
        const isWritable = writable && at.node.writable !== undefined;
        await exports.add({ ...about, writable: isWritable, writethrough: false, allocationDepth: false });
        return undefined;
      },
    ),
    command('nbd-server-remove', { name: text, mode: removal }, ({ name, mode }) =>
      remove(exports.idOf(name) ?? name, mode),
    ),
  ];
}
