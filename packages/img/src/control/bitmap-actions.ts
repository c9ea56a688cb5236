/**
 * What can be done to bitmaps, each so that it can be undone: alone as a command, and with others in a transaction.
 *
 * QEMU: blockdev.c, the actions of `block-dirty-bitmap-*`.
 */
import { type BitmapStore, DirtyBitmap } from '@strata/bitmap';
import { DiskError, isDiskError } from '@strata/block';
import {
  either,
  flag,
  isObject,
  isText,
  list,
  optional,
  type Read,
  record,
  refusal,
  text,
  uint32,
} from '@strata/qmp';
import { type Action, type ActionKind, actionKind } from './action.ts';
import { checkBitmap, contentOf, type FoundBitmap, findBitmap, storeOf } from './bitmaps.ts';
import type { FoundNode } from './graph.ts';
import type { Steering } from './steering.ts';

/** Which bitmap. */
export const nodeAndName = { node: text, name: text };

const adding = {
  ...nodeAndName,
  granularity: optional(uint32),
  persistent: optional(flag),
  disabled: optional(flag),
};

/** A bitmap of the node that a command is about, or of another one. */
export const bitmapReference = either('BlockDirtyBitmapOrStr', isText, text, isObject, record(nodeAndName));

const merging = { node: text, target: text, bitmaps: list(bitmapReference) };

/** The kinds of steps, by the names of the commands. */
export function bitmapActions(steering: Steering): Readonly<Record<string, ActionKind>> {
  return {
    'block-dirty-bitmap-add': actionKind(adding, (data) => add(steering, data)),
    'block-dirty-bitmap-remove': actionKind(nodeAndName, (data) => remove(steering, data)),
    'block-dirty-bitmap-clear': actionKind(nodeAndName, (data) => clear(steering, data)),
    'block-dirty-bitmap-enable': actionKind(nodeAndName, (data) => setEnabled(steering, data, true)),
    'block-dirty-bitmap-disable': actionKind(nodeAndName, (data) => setEnabled(steering, data, false)),
    'block-dirty-bitmap-merge': actionKind(merging, (data) => merge(steering, data)),
  };
}

type Named = Read<typeof nodeAndName>;

function add({ graph }: Steering, data: Read<typeof adding>): Action {
  const { node, name, persistent = false, disabled = false } = data;
  let store: BitmapStore | undefined;
  return {
    prepare: async () => {
      if (name === '') throw refusal('Bitmap name cannot be empty');
      const at = graph.get(node);
      const granularity = data.granularity ?? usualGranularity(at);
      const found = storeOf(at);
      try {
        await found.add(name, { granularity, persistent, enabled: !disabled });
      } catch (error) {
        throw persistent ? unkept(error, name, node) : error;
      }
      store = found;
    },
    abort: async () => await store?.remove(name),
  };
}

/** An image with tables of its own records whole clusters. */
function usualGranularity({ node: { image, writable } }: FoundNode): number {
  const clusterSize = image.format.exclusive ? (writable?.layer.caps.blockSize ?? 65_536) : 65_536;
  return Math.min(Math.max(clusterSize, 4096), 65_536);
}

/** Says of a refusal by the image that it is about keeping the bitmap. */
function unkept(error: unknown, name: string, node: string): unknown {
  if (!isDiskError(error, 'not-supported') && !isDiskError(error, 'limit')) return error;
  const { code, context, message } = error;
  return new DiskError(code, `Can't make bitmap '${name}' persistent in '${node}': ${message}`, {
    ...context,
    cause: error,
  });
}

function remove({ graph }: Steering, { node, name }: Named): Action {
  let store: BitmapStore | undefined;
  let release: () => void = () => undefined;
  return {
    prepare: async () => {
      const found = await findBitmap(graph, node, name);
      checkBitmap(found, { inconsistent: true });
      const kept = storeOf(found.at);
      // Until it is removed nobody else may begin to use it.
      if (!found.facts.inconsistent) release = await kept.hold(name);
      store = kept;
    },
    commit: async () => {
      release();
      await store?.remove(name);
    },
    clean: () => release(),
  };
}

function clear({ graph }: Steering, { node, name }: Named): Action {
  return changing(
    async () => await usable(await findBitmap(graph, node, name)),
    async (store) => await store.clear(name),
  );
}

function merge({ graph }: Steering, { node, target, bitmaps }: Read<typeof merging>): Action {
  const union = async (found: FoundBitmap): Promise<DirtyBitmap> => {
    const { size, granularity } = await contentOf(found);
    const whole = new DirtyBitmap(size, granularity);
    for (const each of bitmaps) {
      const { node: from, name } = typeof each === 'string' ? { node, name: each } : each;
      const source = await findBitmap(graph, from, name);
      if (source.facts.inconsistent) checkBitmap(source, { readOnly: true });
      whole.merge(await contentOf(source));
    }
    return whole;
  };
  return changing(
    async () => await usable(await findBitmap(graph, node, target)),
    async (store, found) => await store.merge(target, await union(found)),
  );
}

async function usable(found: FoundBitmap): Promise<FoundBitmap> {
  checkBitmap(found);
  return found;
}

/** A change of what a bitmap says. Nobody writes while it can still be undone. */
function changing(
  find: () => Promise<FoundBitmap>,
  change: (store: BitmapStore, found: FoundBitmap) => Promise<void>,
): Action {
  let undo: (() => Promise<void>) | undefined;
  let before: DirtyBitmap | undefined;
  return {
    prepare: async () => {
      const found = await find();
      const store = storeOf(found.at);
      const { name } = found.facts;
      const old = (await contentOf(found)).copy();
      before = old;
      await change(store, found);
      undo = async () => {
        await store.clear(name);
        await store.merge(name, old);
      };
    },
    abort: async () => await undo?.(),
    clean: () => before?.retire(),
  };
}

function setEnabled({ graph }: Steering, { node, name }: Named, enabled: boolean): Action {
  let undo: (() => Promise<void>) | undefined;
  return {
    prepare: async () => {
      const found = await findBitmap(graph, node, name);
      checkBitmap(found);
      const store = storeOf(found.at);
      const was = found.facts.enabled;
      await store.setEnabled(name, enabled);
      undo = async () => await store.setEnabled(name, was);
    },
    abort: async () => await undo?.(),
  };
}
