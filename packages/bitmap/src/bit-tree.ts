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

/**
 * Bytes of memory that trees may still take; several may share one. A tree that finds none left grows coarser
 * instead: numbers that it has no room to leave out are in.
 */
export interface MemoryRoom {
  left: number;
}

const leafBits = 12;
/** Numbers of a leaf. */
export const leafSize = 2 ** leafBits;
const branchBits = 8;
const fanOut = 2 ** branchBits;
const wordBits = 32;
/** Bytes of memory, with what the engine adds to each. */
const leafCost = leafSize / 8 + 160;
const branchCost = fanOut * 8 + 48;

/** How many bits a tree must have to hold the numbers below `count`. */
export function treeBits(count: number): number {
  let bits = leafBits;
  while (2 ** bits < count) bits += branchBits;
  return bits;
}

/** The tree with `from` up to and without `to` put in or taken out. The old tree must not be used any more. */
export function put(
  tree: BitTree,
  bits: number,
  from: number,
  to: number,
  state: 0 | 1,
  room: MemoryRoom,
): BitTree {
  if (tree === state || from >= to) return tree;
  if (from === 0 && to === 2 ** bits) {
    release(tree, room);
    return state;
  }
  if (bits === leafBits) {
    const words = tree instanceof Uint32Array ? tree : growLeaf(tree === allIn, room);
    if (words === undefined) return allIn;
    putBits(words, from, to, state);
    const alike = state === allIn ? 0xffffffff : 0;
    if (words[from >>> 5] !== alike || !words.every((word) => word === alike)) return words;
    release(words, room);
    return state;
  }
  const children = Array.isArray(tree) ? tree : growBranch(tree === allIn, room);
  if (children === undefined) return allIn;
  const childBits = bits - branchBits;
  const span = 2 ** childBits;
  const first = Math.floor(from / span);
  for (let index = first; index * span < to; index++) {
    const start = index * span;
    const child = children[index] as BitTree;
    const [childFrom, childTo] = [Math.max(from - start, 0), Math.min(to - start, span)];
    children[index] = put(child, childBits, childFrom, childTo, state, room);
  }
  return settled(children, children[first] as BitTree, room);
}

/** A branch, or the state of its children if all have `first`'s. */
function settled(children: BitTree[], first: BitTree, room: MemoryRoom): BitTree {
  if ((first !== allIn && first !== allOut) || !children.every((child) => child === first)) return children;
  room.left += branchCost;
  return first;
}

/** Gives the memory of a tree back, which must not be used any more. */
export function release(tree: BitTree, room: MemoryRoom): void {
  if (tree === allIn || tree === allOut) return;
  room.left += tree instanceof Uint32Array ? leafCost : branchCost;
  if (Array.isArray(tree)) for (const child of tree) release(child, room);
}

/** A tree of the same numbers that shares nothing with `tree`. */
export function cloneTree(tree: BitTree, room: MemoryRoom): BitTree {
  if (tree === allIn || tree === allOut) return tree;
  const cost = tree instanceof Uint32Array ? leafCost : branchCost;
  if (room.left < cost) return allIn;
  room.left -= cost;
  return tree instanceof Uint32Array ? tree.slice() : tree.map((child) => cloneTree(child, room));
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

/** How many of the numbers below `limit` are in. */
export function countIn(tree: BitTree, bits: number, limit: number): number {
  if (limit <= 0 || tree === allOut) return 0;
  if (tree === allIn) return Math.min(2 ** bits, limit);
  if (tree instanceof Uint32Array) {
    return tree.reduce((sum, word, index) => {
      const left = limit - index * wordBits;
      return left <= 0 ? sum : sum + onesIn(left < wordBits ? word & maskOf(0, left) : word);
    }, 0);
  }
  const childBits = bits - branchBits;
  return tree.reduce<number>(
    (sum, child, index) => sum + countIn(child, childBits, limit - index * 2 ** childBits),
    0,
  );
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

/** A run of leaves that are alike, or one leaf that is not. */
export interface LeafRun {
  /** A multiple of `leafSize`. */
  readonly first: number;
  readonly leaves: number;
  /** Words are not to be changed. */
  readonly content: typeof allOut | typeof allIn | Uint32Array;
}

/** All leaves of a tree from the first on; neighbouring runs may be alike. */
export function* leafRuns(tree: BitTree, bits: number, first = 0): Generator<LeafRun, void, undefined> {
  if (!Array.isArray(tree)) {
    yield { first, leaves: 2 ** (bits - leafBits), content: tree };
    return;
  }
  const childBits = bits - branchBits;
  for (const [index, child] of tree.entries())
    yield* leafRuns(child, childBits, first + index * 2 ** childBits);
}

/**
 * The tree with the numbers of one leaf put in that `words` has, from `first` on, a multiple of `leafSize`. `words`
 * is kept; the old tree must not be used any more.
 */
export function putLeaf(
  tree: BitTree,
  bits: number,
  first: number,
  words: Uint32Array,
  room: MemoryRoom,
): BitTree {
  if (tree === allIn || words.every((word) => word === 0)) return tree;
  if (bits === leafBits) {
    if (tree instanceof Uint32Array) {
      for (let index = 0; index < words.length; index++)
        words[index] = (words[index] as number) | (tree[index] as number);
      release(tree, room);
    }
    if (room.left < leafCost || words.every((word) => word === 0xffffffff)) return allIn;
    room.left -= leafCost;
    return words;
  }
  const children = Array.isArray(tree) ? tree : growBranch(false, room);
  if (children === undefined) return allIn;
  const childBits = bits - branchBits;
  const index = Math.floor(first / 2 ** childBits);
  const child = putLeaf(children[index] as BitTree, childBits, first - index * 2 ** childBits, words, room);
  children[index] = child;
  return settled(children, child, room);
}

/** Undefined: there is no room. */
function growLeaf(isIn: boolean, room: MemoryRoom): Uint32Array | undefined {
  if (room.left < leafCost) return undefined;
  room.left -= leafCost;
  return new Uint32Array(2 ** leafBits / wordBits).fill(isIn ? 0xffffffff : 0);
}

/** Undefined: there is no room. */
function growBranch(isIn: boolean, room: MemoryRoom): BitTree[] | undefined {
  if (room.left < branchCost) return undefined;
  room.left -= branchCost;
  return new Array<BitTree>(fanOut).fill(isIn ? allIn : allOut);
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
