/**
 * What `compare -s` demands beyond equal bytes: the same allocation, as QEMU describes it.
 *
 * A range has a status: data or zeros, allocated by some image or by none, with a place in a file, encoded, and
 * reaching to the end of the disk. Where two disks differ in it, they differ.
 */
import type { Chain, Resolution } from '@strata/chain';

/** Where the allocation of two disks of the same size differs first; undefined if it does not. */
export async function allocationMismatch(a: Chain, b: Chain, size: number): Promise<number | undefined> {
  for (let at = 0; at < size; ) {
    const [ofA, ofB] = await Promise.all([statusAt(a, at, size), statusAt(b, at, size)]);
    if (ofA.status !== ofB.status) return at;
    at += Math.min(ofA.length, ofB.length);
  }
  return undefined;
}

interface Status {
  readonly length: number;
  /** Alike exactly if the ranges are. */
  readonly status: string;
}

async function statusAt(chain: Chain, at: number, size: number): Promise<Status> {
  const { layer, mapping } = await chain.resolve(at, size - at);
  const isRaw = chain.images[layer]?.format.name === 'raw';
  const { length, words } = await describe(mapping, isRaw);
  const toEnd = at + length >= size ? ['to the end'] : [];
  return { length, status: [...words, ...toEnd].join(', ') };
}

/** How one answer of a chain reads in QEMU's terms. */
async function describe(
  mapping: Resolution['mapping'],
  isRaw: boolean,
): Promise<{ readonly length: number; readonly words: readonly string[] }> {
  const { length } = mapping;
  switch (mapping.kind) {
    case 'below':
      return { length, words: ['zero'] };
    case 'past-end':
      return { length, words: ['zero', 'allocated'] };
    case 'zero':
      return { length, words: ['zero', 'allocated', ...(mapping.at === undefined ? [] : ['placed'])] };
    case 'encoded':
      return { length, words: ['data', 'allocated', 'encoded'] };
    case 'raw': {
      if (!mapping.sparse) return { length, words: ['data', 'allocated', 'placed'] };
      const { device, at } = mapping;
      const extent = device.tryExtentAt(at, length) ?? (await device.extentAt(at, length));
      const isData = extent.kind === 'data' || extent.kind === 'compressed';
      const content = isData ? ['data'] : isRaw ? ['zero'] : ['data', 'zero'];
      const preallocated = isRaw ? [] : ['preallocated'];
      return { length: extent.length, words: [...content, 'allocated', 'placed', ...preallocated] };
    }
  }
}
