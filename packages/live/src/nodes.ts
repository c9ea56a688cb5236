/** Gives the images of an opened chain the names that they go by. */
import type { Chain, WritableChain } from '@strata/chain';
import type { LiveNode } from './live-disk.ts';
import type { NodeNames } from './node-names.ts';

/**
 * The images of `chain` as nodes, for a `LiveDisk`, which then closes them in place of the chain.
 *
 * @param top the name of the first one; generated if not given, as all others are
 * @throws {DiskError} invalid, exists: no name is taken then
 */
export function nodesOf(chain: Chain | WritableChain, names: NodeNames, top?: string): readonly LiveNode[] {
  const first = top === undefined ? names.generate() : names.take(top);
  return chain.images.map((image, index) => {
    const isTop = index === 0;
    const writable = isTop && 'top' in chain ? chain.top : undefined;
    return { name: isTop ? first : names.generate(), image, writable };
  });
}
