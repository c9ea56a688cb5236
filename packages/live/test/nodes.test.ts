/** Names for the images of a chain. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openChain, openWritableChain } from '@strata/chain';
import { NodeNames } from '../src/node-names.ts';
import { nodesOf } from '../src/nodes.ts';
import { chainFiles } from './live-disks.ts';

test('the top has the name that was chosen and can be written, those under it have names of their own', async () => {
  const files = await chainFiles(['base', 'top']);
  const names = new NodeNames();
  await using chain = await openWritableChain('top', files.opening);
  const [top, base] = nodesOf(chain, names, 'disk');
  assert.deepEqual([top?.name, top?.writable], ['disk', chain.top]);
  assert.match(base?.name ?? '', /^#block/);
  assert.equal(base?.writable, undefined);
  assert.throws(() => nodesOf(chain, names, 'disk'), { message: "Duplicate nodes with node-name='disk'" });
});

test('of a chain that is open for reading nothing can be written, and a name is made for the top too', async () => {
  const files = await chainFiles(['base', 'top']);
  await using chain = await openChain('top', files.opening);
  const nodes = nodesOf(chain, new NodeNames());
  for (const { name, writable } of nodes)
    assert.deepEqual([/^#block/.test(name), writable], [true, undefined]);
});
