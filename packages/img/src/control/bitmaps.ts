/**
 * The bitmaps of nodes, as commands find and judge them.
 *
 * QEMU: block/monitor/bitmap-qmp-cmds.c and block/dirty-bitmap.c, for which sentence comes first.
 */
import {
  type BitmapFacts,
  type BitmapStore,
  bitmapStoreOf,
  bitmapsOf,
  type DirtyBitmap,
} from '@strata/bitmap';
import { refusal } from '@strata/qmp';
import type { FoundNode, Graph } from './graph.ts';

/** A bitmap, and the image that has it. */
export interface FoundBitmap {
  readonly at: FoundNode;
  readonly facts: BitmapFacts;
}

/** The bitmaps of an image, in the order in which they were added. @throws {DiskError} */
export async function listBitmapsOf({ node }: FoundNode): Promise<readonly BitmapFacts[]> {
  return (await bitmapsOf(node.image.layer)?.list()) ?? [];
}

/** @throws {QmpError} if there is no such node, or no such bitmap */
export async function findBitmap(graph: Graph, nodeName: string, name: string): Promise<FoundBitmap> {
  const at = graph.find(nodeName);
  if (at === undefined) throw refusal(`Node '${nodeName}' not found`);
  const facts = (await listBitmapsOf(at)).find((each) => each.name === name);
  if (facts === undefined) throw refusal(`Dirty bitmap '${name}' not found`);
  return { at, facts };
}

/** What a use of a bitmap has to bear with. */
export interface BitmapUse {
  /** The bitmap's image may be open for reading only. */
  readonly readOnly?: true;
  readonly inconsistent?: true;
}

/** @throws {QmpError} for a bitmap that cannot be used so */
export function checkBitmap({ at, facts }: FoundBitmap, { readOnly, inconsistent }: BitmapUse = {}): void {
  const { name } = facts;
  if (facts.busy)
    throw refusal(`Bitmap '${name}' is currently in use by another operation and cannot be used`);
  if (!readOnly && at.node.writable === undefined)
    throw refusal(`Bitmap '${name}' is readonly and cannot be modified`);
  if (!inconsistent && facts.inconsistent)
    throw refusal(`Bitmap '${name}' is inconsistent and cannot be used`);
}

/** Who keeps the bitmaps of an image that is open for writing. @throws {QmpError} if nobody does */
export function storeOf({ node }: FoundNode): BitmapStore {
  if (node.writable === undefined) throw refusal(`Block node '${node.name}' is read-only`);
  const store = bitmapStoreOf(node.writable.layer);
  if (store !== undefined) return store;
  throw refusal(`Bitmaps of ${node.image.format.name} images are not supported: node '${node.name}'`);
}

/** What a bitmap says. @throws {DiskError} */
export async function contentOf({ at, facts }: FoundBitmap): Promise<DirtyBitmap> {
  const source = bitmapsOf(at.node.image.layer);
  if (source === undefined) throw new RangeError(`the image of bitmap ${facts.name} has none`);
  return await source.load(facts.name);
}

/** Makes bitmaps busy until the result is called. Those of images that are open for reading cannot change anyway. */
export async function heldBy(bitmaps: readonly FoundBitmap[]): Promise<() => void> {
  const releases: (() => void)[] = [];
  const release = (): void => releases.splice(0).forEach((each) => void each());
  try {
    for (const { at, facts } of bitmaps) {
      const store = at.node.writable && bitmapStoreOf(at.node.writable.layer);
      if (store !== undefined) releases.push(await store.hold(facts.name));
    }
    return release;
  } catch (error) {
    release();
    throw error;
  }
}
