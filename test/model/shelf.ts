/**
 * The images of a model run that changes chains as a whole: each with an array of what it reads.
 *
 * A commit to a deeper image changes what the images between read; nobody may rely on those, and their arrays are
 * given up.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createFile } from '@strata/block';
import { commit, openChain, openWritableChain, rebase } from '@strata/chain';
import { createQcow2 } from '@strata/qcow2';
import { qemuImg, type TemporaryFolder } from '@strata/testkit';
import { openingIn } from '../local-files.ts';

/** A step. Places are fractions, so that a step fits every chain. */
export type ShelfStep =
  | { readonly kind: 'write' | 'zero'; readonly at: number; readonly length: number; readonly fill: number }
  | {
      readonly kind: 'overlay';
      readonly sectors: number;
      readonly clusterSize: number;
      readonly version: 2 | 3;
    }
  | { readonly kind: 'commit'; readonly depth: number; readonly keep: boolean }
  | { readonly kind: 'rebase'; readonly onto: number }
  | {
      readonly kind: 'rebase-new';
      readonly bytes: number;
      readonly format: 'raw' | 'qcow2';
      readonly fill: number;
    }
  | { readonly kind: 'flatten' | 'drop' };

interface Shelved {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** What it reads; undefined: nobody may rely on it. */
  view: Uint8Array | undefined;
}

const mostImages = 6;

/** A chain under test, on files. */
export class Shelf {
  readonly #folder: TemporaryFolder;
  /** Base first. */
  #chain: Shelved[] = [];
  #made = 0;

  private constructor(folder: TemporaryFolder) {
    this.#folder = folder;
  }

  static async create(folder: TemporaryFolder): Promise<Shelf> {
    const shelf = new Shelf(folder);
    shelf.#chain = [await shelf.#newBase(700_000, 'raw', 3)];
    await shelf.#overlay(1000, 4096, 3);
    return shelf;
  }

  get #top(): Shelved {
    return this.#chain.at(-1) as Shelved;
  }

  get #view(): Uint8Array {
    return this.#top.view as Uint8Array;
  }

  get #opening() {
    return openingIn(this.#folder.path);
  }

  /** Takes one step, and compares all that is known. */
  async step(step: ShelfStep): Promise<void> {
    const isOverlay = this.#top.format === 'qcow2';
    switch (step.kind) {
      case 'write':
      case 'zero':
        await this.#change(step);
        break;
      case 'overlay':
        if (this.#chain.length >= mostImages) return;
        await this.#overlay(step.sectors, step.clusterSize, step.version);
        break;
      case 'commit':
        if (this.#chain.length < 2) return;
        await this.#commit(step.depth, step.keep);
        break;
      case 'rebase':
        if (!isOverlay || this.#chain.length < 2) return;
        await this.#rebase(Math.floor(step.onto * (this.#chain.length - 1)));
        break;
      case 'rebase-new':
        if (!isOverlay) return;
        await this.#rebaseNew(await this.#newBase(step.bytes, step.format, step.fill));
        break;
      case 'flatten':
        if (!isOverlay) return;
        await rebase(this.#top.path, this.#opening, undefined);
        this.#chain = [this.#top];
        break;
      case 'drop':
        if (this.#chain.length < 2 || this.#chain.at(-2)?.view === undefined) return;
        this.#chain.pop();
    }
    await this.#compareAll();
  }

  async #newBase(bytes: number, format: 'raw' | 'qcow2', fill: number): Promise<Shelved> {
    const path = this.#folder.file(`${this.#made++}.${format}`);
    const size = format === 'raw' ? bytes : Math.ceil(bytes / 512) * 512;
    const view = Uint8Array.from({ length: size }, (_, i) => ((i >> 12) % 3 === 0 ? 0 : (i + fill) & 0xff));
    if (format === 'raw') {
      await writeFile(path, view);
    } else {
      await this.#createImage(path, { size, clusterSize: 4096 });
      await using chain = await openWritableChain(path, { ...this.#opening, format });
      await chain.device.write(view, 0);
    }
    return { path, format, view };
  }

  async #createImage(path: string, options: Parameters<typeof createQcow2>[1]): Promise<void> {
    await using file = await createFile(path);
    await createQcow2(file, options);
  }

  async #overlay(sectors: number, clusterSize: number, version: 2 | 3): Promise<void> {
    const below = this.#top;
    const path = this.#folder.file(`${this.#made++}.qcow2`);
    const size = sectors * 512;
    const backing = { name: below.path, format: below.format };
    await this.#createImage(path, { size, clusterSize, version, backing });
    const view = new Uint8Array(size);
    view.set((below.view as Uint8Array).subarray(0, size));
    this.#chain.push({ path, format: 'qcow2', view });
  }

  async #change(step: Extract<ShelfStep, { at: number }>): Promise<void> {
    const { path, format } = this.#top;
    const view = this.#view;
    const offset = Math.floor(step.at * view.length);
    const length = Math.min(step.length, view.length - offset);
    await using chain = await openWritableChain(path, { ...this.#opening, format });
    if (step.kind === 'zero') {
      view.fill(0, offset, offset + length);
      await chain.device.zero(offset, length);
    } else {
      const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + step.fill) & 0xff);
      view.set(bytes, offset);
      await chain.device.write(bytes, offset);
    }
  }

  async #commit(depth: number, keep: boolean): Promise<void> {
    const index = Math.floor(depth * (this.#chain.length - 1));
    const base = this.#chain[index] as Shelved;
    const isNext = index === this.#chain.length - 2;
    await commit(this.#top.path, this.#opening, isNext ? { keep } : { base: base.path });
    const view = this.#view;
    for (const between of this.#chain.slice(index + 1, -1)) between.view = undefined;
    if (base.view === undefined) return;
    const grown = new Uint8Array(Math.max(base.view.length, view.length));
    grown.set(base.view);
    grown.set(view);
    base.view = grown;
  }

  async #rebase(index: number): Promise<void> {
    const base = this.#chain[index] as Shelved;
    await this.#record(base);
    this.#chain = [...this.#chain.slice(0, index + 1), this.#top];
  }

  async #rebaseNew(base: Shelved): Promise<void> {
    await this.#record(base);
    this.#chain = [base, this.#top];
  }

  async #record({ path, format }: Shelved): Promise<void> {
    const open = { ...this.#opening, format };
    await rebase(this.#top.path, this.#opening, { reference: { name: path, format }, path, open });
  }

  async #compareAll(): Promise<void> {
    for (const { path, format, view } of this.#chain) {
      if (view === undefined) continue;
      await using chain = await openChain(path, { ...this.#opening, format });
      assert.equal(chain.source.size, view.length, path);
      const found = new Uint8Array(view.length);
      await chain.source.read(found, 0);
      const differs = found.findIndex((byte, index) => byte !== view[index]);
      assert.equal(differs, -1, `${path} differs at ${differs}`);
    }
  }

  /** QEMU's opinion: every image is clean, and the chain reads as the array. */
  async judge(): Promise<void> {
    for (const { path, format, view } of this.#chain) {
      if (format === 'qcow2') {
        const { status, stderr } = await qemuImg.check(path);
        assert.equal(status, 0, `qemu-img check ${path}: ${stderr}`);
      }
      if (view === undefined) continue;
      const expected = this.#folder.file('expected');
      await writeFile(expected, view);
      await qemuImg.compare(expected, 'raw', path, format);
    }
  }
}
