import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostFile, MemoryDevice, raw } from '@strata/block';
import { allowFolders, openWritableChain } from '@strata/chain';
import { Graph } from '../../src/control/graph.ts';

const open = () => {
  const host = hostFile(new MemoryDevice(4096), 'memory');
  const place = async () => ({
    host,
    identity: undefined,
    realPath: undefined,
    lock: () => Promise.resolve(),
  });
  const places = { openSource: place, openFile: place };
  return openWritableChain('memory', { formats: [raw], format: raw, gate: allowFolders([]), places });
};

test('a disk is found by its name until it is removed, and the name is free then', async () => {
  await using graph = new Graph();
  const disk = graph.adopt(await open(), 'a');
  assert.equal(graph.get('a').disk, disk);
  await using second = await open();
  assert.throws(() => graph.adopt(second, 'a'), /Duplicate nodes with node-name='a'/);
  assert.throws(() => graph.get('b'), /Cannot find device='b' nor node-name='b'/);
  await graph.remove(disk);
  assert.equal(graph.find('a'), undefined);
  await assert.rejects(disk.read(new Uint8Array(1), 0), { code: 'closed' });
  graph.adopt(await open(), 'a');
});

test('all disks are closed at the end, those first that stand on others', async () => {
  const graph = new Graph();
  const base = graph.adopt(await open(), 'base');
  const overlay = graph.adopt(await open(), 'overlay', base);
  await graph[Symbol.asyncDispose]();
  for (const disk of [base, overlay]) await assert.rejects(disk.flush(), { code: 'closed' });
  assert.deepEqual(graph.disks, []);
});
