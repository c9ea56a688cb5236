/**
 * A tree of bits as plain bytes, the first number in the lowest bit of the first byte: how qcow2 keeps bitmaps.
 *
 * Spec: qcow2.txt, "Bitmap data"
 */
import { allIn, allOut, type BitTree, leafAt, leafSize, type MemoryRoom, putLeaf } from './bit-tree.ts';

const leafBytes = leafSize / 8;

/** Fills `into` with the numbers from `first` on, a multiple of `leafSize`. They must not reach past the tree. */
export function bytesOf(tree: BitTree, bits: number, first: number, into: Uint8Array): void {
  for (let at = 0; at < into.length; at += leafBytes) {
    const leaf = leafAt(tree, bits, first + at * 8);
    const end = Math.min(at + leafBytes, into.length);
    if (leaf === allIn || leaf === allOut) into.fill(leaf === allIn ? 0xff : 0, at, end);
    else if (leaf instanceof Uint32Array) writeWords(leaf, into.subarray(at, end));
  }
}

/**
 * The tree with the numbers put in that `bytes` has, from `first` on, a multiple of `leafSize`; bits of `count` and
 * above are passed over. The old tree must not be used any more.
 */
export function withBytes(
  tree: BitTree,
  bits: number,
  first: number,
  bytes: Uint8Array,
  count: number,
  room: MemoryRoom,
): BitTree {
  let result = tree;
  for (let at = 0; at < bytes.length && first + at * 8 < count; at += leafBytes) {
    const start = first + at * 8;
    const words = readWords(bytes.subarray(at, at + leafBytes), count - start);
    result = putLeaf(result, bits, start, words, room);
  }
  return result;
}

function writeWords(words: Uint32Array, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  const whole = into.length >>> 2;
  for (let index = 0; index < whole; index++) view.setUint32(index * 4, words[index] as number, true);
  for (let at = whole * 4; at < into.length; at++)
    into[at] = (words[whole] as number) >>> ((at - whole * 4) * 8);
}

/** The bits of `bytes`, those from `count` on out. */
function readWords(bytes: Uint8Array, count: number): Uint32Array {
  const words = new Uint32Array(leafSize / 32);
  for (let at = 0; at < bytes.length; at++)
    words[at >>> 2] = (words[at >>> 2] as number) | ((bytes[at] as number) << ((at & 3) * 8));
  for (let index = Math.floor(count / 32); index < words.length; index++) {
    const left = Math.max(count - index * 32, 0);
    words[index] = left === 0 ? 0 : (words[index] as number) & (0xffffffff >>> (32 - Math.min(left, 32)));
  }
  return words;
}
