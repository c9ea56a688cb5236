/** The real thing of a model run, a chain of images on files, and beside it an array that is always right. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { type BackingReference, createFile } from '@strata/block';
import { commit, openWritableChain, type WritableChain } from '@strata/chain';
import { createQcow2 } from '@strata/qcow2';
import { qemuImg, type TemporaryFolder } from '@strata/testkit';
import { openingIn } from '../local-files.ts';
import type { Operation, Plan } from './operations.ts';

const mostImages = 4;

/** A chain under test. */
export class Subject implements AsyncDisposable {
  readonly #plan: Plan;
  readonly #folder: TemporaryFolder;
  #oracle: Uint8Array;
  /** Base first. */
  readonly #images: { readonly path: string; readonly format: 'raw' | 'qcow2' }[] = [];
  #chain: WritableChain | undefined;

  private constructor(plan: Plan, folder: TemporaryFolder) {
    this.#plan = plan;
    this.#folder = folder;
    this.#oracle = new Uint8Array(plan.sectors * 512);
  }

  static async create(plan: Plan, folder: TemporaryFolder): Promise<Subject> {
    const subject = new Subject(plan, folder);
    await subject.#createBase();
    await subject.#overlay();
    await subject.#open();
    return subject;
  }

  async #createBase(): Promise<void> {
    const { base } = this.#plan;
    const path = this.#folder.file('0');
    const size = base === 'short-qcow2' ? Math.floor(this.#plan.sectors / 3) * 512 : this.#oracle.length;
    const content = Uint8Array.from({ length: size }, (_, index) =>
      (index >> 9) % 3 === 0 ? 0 : index % 251,
    );
    this.#oracle.set(content);
    if (base === 'raw') {
      await writeFile(path, content);
    } else {
      await this.#createImage(path, size);
      await using chain = await openWritableChain(path, { ...openingIn(this.#folder.path), format: 'qcow2' });
      await chain.device.write(content, 0);
    }
    this.#images.push({ path, format: base === 'raw' ? 'raw' : 'qcow2' });
  }

  async #createImage(path: string, size: number, backing?: BackingReference): Promise<void> {
    const { version, clusterSize, refcountBits, feature } = this.#plan;
    await using file = await createFile(path);
    const options = {
      size,
      version,
      clusterSize,
      refcountBits,
      lazyRefcounts: feature === 'lazy refcounts',
      extendedL2: feature === 'subclusters' && clusterSize >= 16_384,
      ...(backing && { backing }),
    };
    if (!feature.endsWith('data file')) {
      await createQcow2(file, options);
      return;
    }
    const name = `${path}.data`;
    await using data = await createFile(name);
    // What lies over a backing file cannot be a disk by itself.
    const raw = feature === 'raw data file' && backing === undefined;
    await createQcow2(file, { ...options, dataFile: { name, file: data, raw } });
  }

  /** A new image on top, while nothing is open. */
  async #overlay(): Promise<void> {
    const below = this.#images.at(-1);
    assert.ok(below);
    const path = this.#folder.file(`${this.#images.length}`);
    await this.#createImage(path, this.#oracle.length, { name: below.path, format: below.format });
    this.#images.push({ path, format: 'qcow2' });
  }

  get #top(): string {
    return this.#images.at(-1)?.path as string;
  }

  async #open(): Promise<void> {
    this.#chain = await openWritableChain(this.#top, { ...openingIn(this.#folder.path), format: 'qcow2' });
  }

  async #close(): Promise<void> {
    const chain = this.#chain;
    this.#chain = undefined;
    await chain?.[Symbol.asyncDispose]();
  }

  async #whileClosed(work: () => Promise<void>): Promise<void> {
    await this.#close();
    await work();
    await this.#open();
  }

  /** Takes one step on both, and compares what the step touched. */
  async step(operation: Operation): Promise<void> {
    const device = this.#chain?.device;
    assert.ok(device);
    switch (operation.kind) {
      case 'flush':
        return device.flush();
      case 'reopen':
        return this.#whileClosed(() => Promise.resolve());
      case 'overlay':
        if (this.#images.length < mostImages) await this.#whileClosed(() => this.#overlay());
        return undefined;
      case 'commit':
        return this.#whileClosed(() => commit(this.#top, openingIn(this.#folder.path)));
      case 'resize':
        return this.#resize(operation.at);
      case 'burst':
        return this.#burst(operation.at, operation.fill);
      default:
        return this.#ranged(operation);
    }
  }

  async #ranged({ kind, at, length, fill }: Extract<Operation, { length: number }>): Promise<void> {
    const device = this.#chain?.device;
    assert.ok(device);
    const offset = Math.floor(at * this.#oracle.length);
    const end = Math.min(offset + length, this.#oracle.length);
    const expected = this.#oracle.subarray(offset, end);
    if (kind === 'write') {
      const bytes = pattern(end - offset, fill);
      expected.set(bytes);
      await device.write(bytes, offset);
    } else if (kind === 'zero' || kind === 'reserve') {
      expected.fill(0);
      await device.zero(offset, end - offset, { allocate: kind === 'reserve' });
    } else if (kind === 'discard') {
      await device.discard(offset, end - offset);
      await this.#learnDiscarded(offset, end);
    }
    await this.#compare(Math.max(0, offset - 700), Math.min(end + 700, this.#oracle.length));
  }

  /** What is cut off is lost, and what is added is zeros, whatever was there before and whatever is below. */
  async #resize(at: number): Promise<void> {
    const chain = this.#chain;
    assert.ok(chain);
    const size = (64 + Math.floor(at * this.#plan.sectors * 1.5)) * 512;
    await chain.top.layer.resize(size, chain.below(size));
    const oracle = new Uint8Array(size);
    oracle.set(this.#oracle.subarray(0, size));
    this.#oracle = oracle;
    await this.#whileClosed(() => Promise.resolve());
    await this.#compare(0, size);
  }

  /** Many writes at once into few clusters, each to sectors of its own. */
  async #burst(at: number, fill: number): Promise<void> {
    const device = this.#chain?.device;
    assert.ok(device);
    const first = Math.floor((at * this.#oracle.length) / 512);
    const writes: Promise<void>[] = [];
    for (let index = 0; index < 12; index++) {
      const offset = (first + index * 3) * 512;
      if (offset + 900 > this.#oracle.length) break;
      const bytes = pattern(900, fill + index);
      this.#oracle.set(bytes, offset);
      writes.push(device.write(bytes, offset));
    }
    await Promise.all(writes);
    await this.#compare(first * 512, Math.min((first + 40) * 512, this.#oracle.length));
  }

  /** Discarded bytes are as they were or zeros; whichever they are, they stay. */
  async #learnDiscarded(offset: number, end: number): Promise<void> {
    const found = await this.#read(offset, end);
    const expected = this.#oracle.subarray(offset, end);
    const strange = found.findIndex((byte, index) => byte !== 0 && byte !== expected[index]);
    assert.equal(strange, -1, `byte ${offset + strange} is neither old nor zero after a discard`);
    expected.set(found);
  }

  async #read(offset: number, end: number): Promise<Uint8Array> {
    const into = new Uint8Array(end - offset).fill(0xaa);
    await this.#chain?.source.read(into, offset);
    const tried = new Uint8Array(end - offset).fill(0x55);
    if (this.#chain?.source.tryRead(tried, offset))
      assert.ok(Buffer.compare(tried, into) === 0, 'try and read differ');
    return into;
  }

  async #compare(offset: number, end: number): Promise<void> {
    const found = await this.#read(offset, end);
    const expected = this.#oracle.subarray(offset, end);
    if (Buffer.compare(found, expected) === 0) return;
    const index = found.findIndex((byte, position) => byte !== expected[position]);
    assert.fail(`byte ${offset + index} is ${found[index]}, expected ${expected[index]}`);
  }

  /** The extents tile the disk, holes and zeros read as zeros, and the whole disk is right. */
  async compareAll(): Promise<void> {
    const source = this.#chain?.source;
    assert.ok(source);
    for (let offset = 0; offset < source.size; ) {
      const extent = await source.extentAt(offset, source.size - offset);
      if (extent.kind !== 'data' && extent.kind !== 'compressed') {
        const bytes = this.#oracle.subarray(offset, offset + extent.length);
        assert.ok(
          bytes.every((byte) => byte === 0),
          `${extent.kind} at ${offset} stands for other bytes`,
        );
      }
      offset += extent.length;
    }
    await this.#compare(0, this.#oracle.length);
  }

  /** QEMU's opinion: every image is clean, without a leak, and the chain reads as the array. */
  async judge(): Promise<void> {
    await this.#close();
    for (const { path, format } of this.#images) {
      if (format !== 'qcow2') continue;
      const { status, stderr } = await qemuImg.check(path);
      assert.equal(status, 0, `qemu-img check ${path}: ${stderr}`);
    }
    const expected = this.#folder.file('expected');
    await writeFile(expected, this.#oracle);
    await qemuImg.compare(expected, 'raw', this.#top, 'qcow2');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close().catch(() => undefined);
  }
}

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed * 31 + (index >> 8)) & 0xff);
}
