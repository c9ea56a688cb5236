import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BlockDevice, checkedDevice, type Extent, MemoryDevice } from '@strata/block';
import { BLOCK_LAWS, type BlockLawName, type BlockSubject, checkLaw } from '../src/block-laws.ts';

const SIZE = 250_001;

/** A disk with one thing wrong: a memory device some of whose methods are replaced. */
function broken(change: (memory: MemoryDevice) => Partial<BlockDevice>): () => Promise<BlockSubject> {
  return async () => {
    const memory = new MemoryDevice(SIZE);
    const wrong = change(memory);
    const parts = new Proxy(memory, {
      get: (target, name) => {
        const own = wrong[name as keyof BlockDevice] ?? Reflect.get(target, name, target);
        return typeof own === 'function' ? own.bind(target) : own;
      },
    });
    const device = checkedDevice(parts);
    return {
      device,
      reopen: async () => checkedDevice(new MemoryDevice(SIZE)),
      below: new Uint8Array(SIZE).fill(0xbe),
      [Symbol.asyncDispose]: () => device[Symbol.asyncDispose](),
    };
  };
}

/** For each law a disk that breaks it. */
const BROKEN: Record<BlockLawName, () => Promise<BlockSubject>> = {
  fills: broken((memory) => ({
    read: (into, offset) => memory.read(into.subarray(0, Math.min(into.length, 100_000)), offset),
  })),
  twins: broken(() => ({
    tryRead: (into) => {
      into.fill(1);
      return true;
    },
  })),
  tiling: broken((memory) => ({
    extentAt: async (offset) => ({ ...(await memory.extentAt(offset, SIZE)), length: SIZE }),
  })),
  zeros: broken(() => {
    const zero = (offset: number, length: number): Extent => ({ offset, length, kind: 'zero', depth: 1 });
    return { tryExtentAt: zero, extentAt: async (offset, limit) => zero(offset, limit) };
  }),
  writes: broken((memory) => ({
    write: async (from, offset) => {
      await memory.write(from, offset);
      if (offset >= 512) await memory.zero(offset - (offset % 512), offset % 512);
    },
  })),
  zeroing: broken((memory) => ({
    zero: (offset, length) => memory.zero(offset, Math.max(length - 1, 0)),
  })),
  discard: broken((memory) => ({
    discard: (offset, length) => memory.write(new Uint8Array(length).fill(0xbe), offset),
  })),
  durable: broken(() => ({})),
  range: async () => {
    const device = new MemoryDevice(SIZE);
    return { device, [Symbol.asyncDispose]: () => device[Symbol.asyncDispose]() };
  },
  neighbours: broken((memory) => ({
    write: async (from, offset) => {
      const start = offset - (offset % 4096);
      const block = new Uint8Array(offset - start + from.length);
      await memory.read(block, start);
      block.set(from, offset - start);
      await new Promise((resolve) => setImmediate(resolve));
      await memory.write(block, start);
    },
  })),
  disposal: async () => ({ device: new Immortal(SIZE), [Symbol.asyncDispose]: async () => {} }),
  model: broken((memory) => {
    let writes = 0;
    return {
      write: async (from, offset) => {
        if (++writes % 50 !== 0) await memory.write(from, offset);
      },
    };
  }),
};

/** A disk that goes on after its disposal. */
class Immortal extends MemoryDevice {
  override async [Symbol.asyncDispose](): Promise<void> {}
}

for (const [name, open] of Object.entries(BROKEN) as [BlockLawName, () => Promise<BlockSubject>][]) {
  test(`a disk that breaks it is caught: ${BLOCK_LAWS[name].title}`, async () => {
    await assert.rejects(checkLaw(BLOCK_LAWS[name], open), /^Error: seed \d+: /);
  });
}
