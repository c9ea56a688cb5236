/**
 * The exports of a server that is steered: those it began with, and those that commands add and remove.
 *
 * A bitmap that is exported is busy until the export is gone.
 *
 * QEMU: block/export/export.c, blockdev-nbd.c and nbd/server.c, for which sentence comes first.
 */
import type { LiveDisk } from '@strata/live';
import {
  allocationDepth,
  baseAllocation,
  dirtyBitmap,
  type Export,
  type MetaContext,
  type NbdServer,
} from '@strata/nbd';
import { type JsonObject, refusal } from '@strata/qmp';
import { bitmapRuns } from '../serving/bitmaps.ts';
import { inManner } from '../serving/manner.ts';
import { checkBitmap, contentOf, type FoundBitmap, findBitmap, heldBy, listBitmapsOf } from './bitmaps.ts';
import type { FoundNode, Graph } from './graph.ts';

/** An export that a command asks for. */
export interface ExportWish {
  readonly id: string;
  readonly at: FoundNode;
  /** For clients. */
  readonly name: string;
  readonly description?: string | undefined;
  readonly writable: boolean;
  /** Every change is on disk when it is answered. */
  readonly writethrough: boolean;
  /** Of the export's image or one under it; or of the node that is named. */
  readonly bitmaps: readonly (string | { readonly node: string; readonly name: string })[];
  readonly allocationDepth: boolean;
}

/** How an export is removed: only if nobody uses it, or from under its clients. */
export type RemovalMode = 'safe' | 'hard';

interface Row {
  readonly name: string;
  readonly disk: LiveDisk;
  /** Gives back what the export keeps busy. */
  release(): void;
  isLeaving: boolean;
}

/** Bytes of UTF-8. Spec: proto.md, strings */
const longestText = 4096;

/** QEMU's names of things. */
const wellFormed = /^[A-Za-z][\w.-]*$/;

/** The exports of one server, by their ids. */
export class ControlExports {
  readonly #rows = new Map<string, Row>();
  readonly #server: NbdServer;
  readonly #graph: Graph;
  readonly #deleted: (id: string) => void;
  readonly #report: (error: unknown) => void;

  /** @param deleted hears of each export that is gone @param report of flushes that nobody waits for */
  constructor(
    server: NbdServer,
    graph: Graph,
    deleted: (id: string) => void,
    report: (error: unknown) => void,
  ) {
    this.#server = server;
    this.#graph = graph;
    this.#deleted = deleted;
    this.#report = report;
  }

  /** Takes over an export that the server began with, under an id made of its name. */
  adopt(name: string, disk: LiveDisk, release: () => void): void {
    let id = wellFormed.test(name) ? name : 'export';
    for (let number = 0; this.#rows.has(id); number++) id = `export${number}`;
    this.#rows.set(id, { name, disk, release, isLeaving: false });
  }

  /** What `query-block-exports` tells, the latest first. */
  list(): readonly JsonObject[] {
    const infos = Array.from(this.#rows, ([id, { disk, isLeaving }]) => {
      return { id, type: 'nbd', 'node-name': disk.top.name, 'shutting-down': isLeaving };
    });
    return infos.reverse();
  }

  /** The id of the export that clients know by this name. */
  idOf(name: string): string | undefined {
    return [...this.#rows].find(([, row]) => row.name === name)?.[0];
  }

  /** True while an export is of this disk. */
  uses(disk: LiveDisk): boolean {
    return [...this.#rows.values()].some((row) => row.disk === disk);
  }

  /** @throws {QmpError} if such an id cannot be had; what else is wrong is told by `add` */
  checkId(id: string): void {
    if (!wellFormed.test(id)) throw refusal('Invalid block export id');
    if (this.#rows.has(id)) throw refusal(`Block export id '${id}' is already in use`);
  }

  /** @throws {QmpError} @throws {DiskError} */
  async add(wish: ExportWish): Promise<void> {
    const { id, at, name, description, writable } = wish;
    const { disk } = at;
    if (writable && at.node.writable === undefined) throw refusal('Cannot export read-only node as writable');
    if (at.depth > 0)
      throw refusal(`Exporting node '${at.node.name}', which is under another one, is not supported`);
    checkText('export name', name);
    if (description !== undefined) checkText('description', description);
    if (this.#isOffered(name)) throw refusal(`NBD server already has export named '${name}'`);
    const found = await this.#findBitmaps(wish);
    const contexts: MetaContext[] = [baseAllocation(disk)];
    if (wish.allocationDepth) contexts.push(allocationDepth(disk));
    for (const bitmap of found)
      contexts.push(dirtyBitmap(bitmap.facts.name, bitmapRuns(await contentOf(bitmap), 0)));
    const device = writable ? inManner(disk, mannerOf(wish)) : undefined;
    const about = { name, contexts, ...(description !== undefined && { description }) };
    const offered: Export = device === undefined ? { ...about, source: disk } : { ...about, device };
    const release = await heldBy(found);
    try {
      this.#server.addExport(offered);
    } catch (error) {
      release();
      throw error;
    }
    this.#rows.set(id, { name, disk, release, isLeaving: false });
  }

  /**
   * Removes an export. If clients are cut off, what they asked for may still be under way when this resolves.
   *
   * @throws {QmpError} @throws what the flush of the disk rejects with, the export being gone all the same
   */
  async remove(id: string, mode: RemovalMode): Promise<void> {
    const row = this.#rows.get(id);
    if (row === undefined) throw refusal(`Export '${id}' is not found`);
    if (row.isLeaving) throw refusal(`Export '${id}' is already shutting down`);
    const isUsed = this.#server.clientsOf(row.name) > 0;
    if (isUsed && mode === 'safe') throw refusal(`export '${id}' still in use`);
    row.isLeaving = true;
    const removed = this.#server.removeExport(row.name, { mode }).finally(() => {
      row.release();
      this.#rows.delete(id);
      this.#deleted(id);
    });
    if (isUsed) removed.catch(this.#report);
    else await removed;
  }

  #isOffered(name: string): boolean {
    return this.#server.figures().some(({ exportName }) => exportName === name);
  }

  async #findBitmaps({ at, bitmaps, writable }: ExportWish): Promise<readonly FoundBitmap[]> {
    const found = new Map<string, FoundBitmap>();
    for (const each of bitmaps) {
      const bitmap =
        typeof each === 'string'
          ? await this.#findDown(at.disk, each)
          : await findBitmap(this.#graph, each.node, each.name);
      const { facts } = bitmap;
      checkBitmap(bitmap, { readOnly: true });
      if (!writable && bitmap.at.node.writable !== undefined && facts.enabled)
        throw refusal(`Enabled bitmap '${facts.name}' incompatible with readonly export`);
      if (!found.has(facts.name)) found.set(facts.name, bitmap);
    }
    return [...found.values()];
  }

  /** The uppermost bitmap of this name among a disk's images. */
  async #findDown(top: LiveDisk, name: string): Promise<FoundBitmap> {
    for (let disk: LiveDisk | undefined = top; disk !== undefined; disk = disk.below) {
      for (const [depth, node] of disk.nodes.entries()) {
        const at = { disk, node, depth };
        const facts = (await listBitmapsOf(at)).find((each) => each.name === name);
        if (facts !== undefined) return { at, facts };
      }
    }
    throw refusal(`Bitmap '${name}' is not found`);
  }
}

function mannerOf({ writethrough }: ExportWish): Parameters<typeof inManner>[1] {
  return { cache: writethrough ? ['writethrough'] : [], discard: undefined, detectZeroes: undefined };
}

function checkText(what: string, given: string): void {
  const bytes = Buffer.byteLength(given);
  if (bytes > longestText) throw refusal(`${what} '${given.slice(0, 80)}...' too long`);
  if (given.includes('\0')) throw refusal(`${what} has a NUL in it`);
}
