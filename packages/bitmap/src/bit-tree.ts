/**
 * A set of numbers from 0 to 2^bits - 1 as a tree in which what is alike costs nothing.
 *
 * A node stands for a power of two of numbers: all out, all in, an array of 256 nodes, or, at the bottom, 4096 bits.
 * A node whose parts have become alike is replaced by that state, so a set that is full, empty or one long
 * run is a few nodes whatever its size, and single numbers far apart cost about a kilobyte each at most.
 */

/** None of a node's numbers is in the set. */
export const allOut = 0;
/** All of them are. */
export const allIn = 1;

/** A part of the set. Arrays are changed in place by `put`. */
export type BitTree = typeof allOut | typeof allIn | Uint32Array | BitTree[];

const leafBits = 12;
/** Numbers of a leaf. */
export const leafSize = 2 ** leafBits;
const branchBits = 8;
const fanOut = 2 ** branchBits;
const wordBits = 32;

/** How many bits a tree must have to hold the numbers below `count`. */
export function treeBits(count: number): number {
  let bits = leafBits;
  while (2 ** bits < count) bits += branchBits;
  return bits;
}

/** The tree with `from` up to and without `to` put in or taken out. The old tree must not be used any more. */
export function put(tree: BitTree, bits: number, from: number, to: number, state: 0 | 1): BitTree {
  if (tree === state || from >= to) return tree;
  if (from === 0 && to === 2 ** bits) return state;
  if (bits === leafBits) {
    const words = tree instanceof Uint32Array ? tree : newLeaf(tree === allIn);
    putBits(words, from, to, state);
    return words.every((word) => word === (state === allIn ? 0xffffffff : 0)) ? state : words;
  }
  const children = Array.isArray(tree) ? tree : new Array<BitTree>(fanOut).fill(tree as BitTree);
  const childBits = bits - branchBits;
  const span = 2 ** childBits;
  for (let index = Math.floor(from / span); index * span < to; index++) {
    const start = index * span;
    const child = children[index] as BitTree;
    children[index] = put(child, childBits, Math.max(from - start, 0), Math.min(to - start, span), state);
  }
  return children.every((child) => child === state) ? state : children;
}

/** The first number from `from` on that is in (or out); 2^bits if there is none. */
export function find(tree: BitTree, bits: number, from: number, state: 0 | 1): number {
  const end = 2 ** bits;
  if (tree === state || from >= end) return Math.min(from, end);
  if (tree === allIn || tree === allOut) return end;
  if (tree instanceof Uint32Array) return findBit(tree, from, state);
  const childBits = bits - branchBits;
  const span = 2 ** childBits;
  for (let index = Math.floor(from / span); index < fanOut; index++) {
    const start = index * span;
    const found = find(tree[index] as BitTree, childBits, Math.max(from - start, 0), state);
    if (found < span) return start + found;
  }
  return end;
}

/** How many numbers are in. */
export function countIn(tree: BitTree, bits: number): number {
  if (tree === allOut) return 0;
  if (tree === allIn) return 2 ** bits;
  if (tree instanceof Uint32Array) return tree.reduce((sum, word) => sum + onesIn(word), 0);
  return tree.reduce<number>((sum, child) => sum + countIn(child, bits - branchBits), 0);
}

/** The leaf whose first number is `first`, a multiple of `leafSize`. Not to be changed. */
export function leafAt(
  tree: BitTree,
  bits: number,
  first: number,
): typeof allOut | typeof allIn | Uint32Array {
  let node = tree;
  let left = first;
  for (let depth = bits; Array.isArray(node); ) {
    depth -= branchBits;
    const index = Math.floor(left / 2 ** depth);
    node = node[index] as BitTree;
    left -= index * 2 ** depth;
  }
  return node;
}

/**
 * The tree with the numbers of one leaf put in that `words` has, from `first` on, a multiple of `leafSize`. `words`
 * is kept; the old tree must not be used any more.
 */
export function putLeaf(tree: BitTree, bits: number, first: number, words: Uint32Array): BitTree {
  if (tree === allIn || words.every((word) => word === 0)) return tree;
  if (bits === leafBits) {
    if (tree instanceof Uint32Array) {
      for (let index = 0; index < words.length; index++)
        words[index] = (words[index] as number) | (tree[index] as number);
    }
    return words.every((word) => word === 0xffffffff) ? allIn : words;
  }
  const children = Array.isArray(tree) ? tree : new Array<BitTree>(fanOut).fill(allOut);
  const childBits = bits - branchBits;
  const index = Math.floor(first / 2 ** childBits);
  const child = putLeaf(children[index] as BitTree, childBits, first - index * 2 ** childBits, words);
  children[index] = child;
  return child === allIn && children.every((each) => each === allIn) ? allIn : children;
}

function newLeaf(isIn: boolean): Uint32Array {
  return new Uint32Array(2 ** leafBits / wordBits).fill(isIn ? 0xffffffff : 0);
}

function putBits(words: Uint32Array, from: number, to: number, state: 0 | 1): void {
  for (let at = from; at < to; ) {
    const index = at >>> 5;
    const end = Math.min(to, (index + 1) * wordBits);
    const mask = maskOf(at & 31, end - index * wordBits);
    const word = words[index] as number;
    words[index] = state === allIn ? word | mask : word & ~mask;
    at = end;
  }
}

/** Bits `from` up to and without `to`, of 0 to 32, `from` below `to`. */
function maskOf(from: number, to: number): number {
  return (0xffffffff << from) & (0xffffffff >>> (wordBits - to));
}

function findBit(words: Uint32Array, from: number, state: 0 | 1): number {
  let index = from >>> 5;
  let mask = 0xffffffff << (from & 31);
  for (; index < words.length; index++) {
    const word = words[index] as number;
    const wanted = (state === allIn ? word : ~word) & mask;
    if (wanted !== 0) return index * wordBits + 31 - Math.clz32(wanted & -wanted);
    mask = 0xffffffff;
  }
  return 2 ** leafBits;
}

function onesIn(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
