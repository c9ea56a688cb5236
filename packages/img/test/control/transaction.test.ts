/** Transactions by themselves: who writes meanwhile, and what is undone in which order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostFile, MemoryDevice, raw } from '@strata/block';
import { allowFolders, openWritableChain } from '@strata/chain';
import type { LiveDisk } from '@strata/live';
import { type QmpCommand, readArguments, refusal, text } from '@strata/qmp';
import { type Action, type ActionKind, actionKind } from '../../src/control/action.ts';
import { Graph } from '../../src/control/graph.ts';
import type { Steering } from '../../src/control/steering.ts';
import { transactionCommand } from '../../src/control/transaction.ts';

/** A graph of one disk in memory. */
async function graphOfOne(): Promise<{ readonly graph: Graph; readonly disk: LiveDisk }> {
  const graph = new Graph();
  const host = hostFile(new MemoryDevice(1_048_576), 'memory');
  const open = async () => ({
    host,
    identity: undefined,
    realPath: undefined,
    lock: () => Promise.resolve(),
  });
  const chain = await openWritableChain('memory', {
    formats: [raw],
    format: raw,
    gate: allowFolders([]),
    places: { openSource: open, openFile: open },
  });
  return { graph, disk: graph.adopt(chain, 'disk') };
}

/** A transaction over steps that a test makes. */
function transaction(graph: Graph, kinds: Readonly<Record<string, ActionKind>>) {
  const steering = { graph, report: () => undefined } as unknown as Steering;
  const row: QmpCommand = transactionCommand(steering, kinds);
  return async (...types: readonly string[]): Promise<unknown> => {
    const actions = types.map((type) => ({ type, data: type === 'abort' ? {} : { name: type } }));
    return await row.run(readArguments(row.arguments, { actions }));
  };
}

test('what is written meanwhile waits for the end, and what was begun before is waited for', async () => {
  const { graph, disk } = await graphOfOne();
  await using _graph = graph;
  const order: string[] = [];
  let meanwhile: Promise<void> | undefined;
  const early = disk.write(new Uint8Array(512), 0).then(() => void order.push('early write'));
  const look = actionKind({ name: text }, () => ({
    prepare: async () => {
      order.push('prepare');
      meanwhile ??= disk.write(new Uint8Array(512), 512).then(() => void order.push('late write'));
      for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
      order.push('prepared');
    },
    commit: async () => void order.push('commit'),
  }));
  await transaction(graph, { look })('look', 'look');
  await Promise.all([early, meanwhile]);
  const steps = ['prepare', 'prepared', 'prepare', 'prepared', 'commit', 'commit'];
  assert.deepEqual(order, ['early write', ...steps, 'late write']);
});

test('a step that fails undoes those before it, the last one first, and the disk goes on', async () => {
  const { graph, disk } = await graphOfOne();
  await using _graph = graph;
  const order: string[] = [];
  const note = (name: string): Action => ({
    prepare: async () => void order.push(`prepare ${name}`),
    commit: async () => void order.push(`commit ${name}`),
    abort: async () => {
      order.push(`abort ${name}`);
      if (name === 'b') throw new Error('cannot be undone');
    },
    clean: () => void order.push(`clean ${name}`),
  });
  const kinds = Object.fromEntries(
    ['a', 'b', 'c'].map((name) => [name, actionKind({ name: text }, () => note(name))]),
  );
  const failing = actionKind({ name: text }, () => ({ prepare: () => Promise.reject(refusal('no')) }));
  const run = transaction(graph, { ...kinds, failing });
  await assert.rejects(run('a', 'b', 'failing', 'c'), { name: 'QmpError', message: 'no' });
  const undone = ['prepare a', 'prepare b', 'abort b', 'abort a', 'clean a', 'clean b', 'clean c'];
  assert.deepEqual(order, undone);
  await disk.write(new Uint8Array(512), 0);
  order.length = 0;
  await run('a', 'b');
  assert.deepEqual(order, ['prepare a', 'prepare b', 'commit a', 'commit b', 'clean a', 'clean b']);
});

test('a step that fails to last does not keep the others from it, and is told', async () => {
  const { graph } = await graphOfOne();
  await using _graph = graph;
  const order: string[] = [];
  const kind = (name: string, failure?: Error): ActionKind =>
    actionKind({ name: text }, () => ({
      prepare: () => Promise.resolve(),
      commit: async () => {
        order.push(name);
        if (failure !== undefined) throw failure;
      },
    }));
  const run = transaction(graph, { a: kind('a', new Error('broken')), b: kind('b') });
  await assert.rejects(run('a', 'b'), /broken/);
  assert.deepEqual(order, ['a', 'b']);
});
