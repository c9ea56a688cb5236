/** What is sent to a running server, in which order, and what becomes of answers that make no sense. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { assertHeld, checkpointIn, describeCheckpoint, type ScratchFolder } from '../src/fleece.ts';
import {
  createRunningCheckpoint,
  dropRunningCheckpoints,
  releaseRunning,
} from '../src/running-checkpoints.ts';
import { runningNodes, type Steering } from '../src/running-nodes.ts';

type Answers = Readonly<Record<string, (given: object) => unknown>>;

/** A server that answers as it is told, and remembers what it was asked. */
function server(answers: Answers) {
  const asked: string[] = [];
  const steering: Steering = {
    execute: async (command, given = {}) => {
      if (!command.startsWith('query-')) asked.push(`${command} ${JSON.stringify(given)}`);
      return answers[command]?.(given) ?? {};
    },
    event: async () => ({}),
  };
  return { asked, steering };
}

const bitmap = (name: string, recording: boolean) => ({ name, recording, count: 0 });
const first = 'backup.1.01234567.89abcdef';

function node(...bitmaps: readonly unknown[]) {
  return { 'node-name': 'disk', drv: 'qcow2', image: { 'virtual-size': 1 << 20 }, 'dirty-bitmaps': bitmaps };
}

/** A folder that remembers what was made in it. */
function scratchFolder() {
  const names = new Set<string>();
  const scratch: ScratchFolder = {
    make: async (name) => {
      names.add(name);
      return `/scratch/${name}`;
    },
    remove: async (name) => void names.delete(name),
  };
  return { names, scratch };
}

const nothing: Answers = { 'query-jobs': () => [], 'query-block-exports': () => [] };

test('one transaction begins the bitmap, freezes the former and starts the job; then comes the export', async () => {
  const { asked, steering } = server({
    ...nothing,
    'query-named-block-nodes': () => [node(bitmap(first, true), bitmap('foreign', true))],
  });
  const { names, scratch } = scratchFolder();
  const [made] = await createRunningCheckpoint(steering, ['disk'], { series: 'backup', scratch });
  const name = made?.checkpoint ?? '';
  assert.match(name, /^backup\.2\.[0-9a-f]{8}\.89abcdef$/);
  assert.equal(made?.export, 'backup-disk');
  assert.deepEqual([...names], ['strata-89abcdef.qcow2']);
  const id = 'strata-89abcdef';
  const added = {
    driver: 'qcow2',
    'node-name': id,
    file: { driver: 'file', filename: `/scratch/${id}.qcow2` },
  };
  const actions = [
    { type: 'block-dirty-bitmap-add', data: { node: 'disk', name, persistent: true } },
    { type: 'block-dirty-bitmap-disable', data: { node: 'disk', name: first } },
    { type: 'blockdev-backup', data: { 'job-id': id, device: 'disk', target: id, sync: 'none' } },
  ];
  const exported = {
    type: 'nbd',
    id,
    'node-name': id,
    name: 'backup-disk',
    description: describeCheckpoint(name),
    bitmaps: [{ node: 'disk', name: first }],
  };
  assert.deepEqual(asked, [
    `blockdev-add ${JSON.stringify({ ...added, backing: 'disk' })}`,
    `transaction ${JSON.stringify({ actions })}`,
    `block-export-add ${JSON.stringify(exported)}`,
  ]);
});

test('when the transaction is refused, everything that was made for it is taken down', async () => {
  let nodes = [node(bitmap(first, true))];
  const { asked, steering } = server({
    ...nothing,
    'query-named-block-nodes': () => nodes,
    'blockdev-add': (given) => {
      nodes = [...nodes, { ...node(), 'node-name': (given as { 'node-name': string })['node-name'] }];
    },
    transaction: () => {
      throw new Error('refused');
    },
  });
  const { names, scratch } = scratchFolder();
  await assert.rejects(createRunningCheckpoint(steering, ['disk'], { series: 'backup', scratch }), /refused/);
  assert.equal(asked.at(-1), 'blockdev-del {"node-name":"strata-89abcdef"}');
  assert.deepEqual([...names], []);
});

test('done and drop take down what is held still before they remove bitmaps; release removes none', async () => {
  const second = 'backup.2.01234567.89abcdef';
  const id = 'strata-89abcdef';
  const answers: Answers = {
    'query-named-block-nodes': () => [
      node(bitmap(second, true), bitmap(first, false)),
      { ...node(), 'node-name': id },
    ],
    'query-jobs': () => [{ id, status: 'running' }],
    'query-block-exports': () => [{ id }],
  };
  const { names, scratch } = scratchFolder();
  const down = [
    `block-export-del ${JSON.stringify({ id, mode: 'hard' })}`,
    `block-job-cancel ${JSON.stringify({ device: id })}`,
    `blockdev-del ${JSON.stringify({ 'node-name': id })}`,
  ];
  const remove = (...gone: readonly string[]) =>
    `transaction ${JSON.stringify({
      actions: gone.map((name) => ({ type: 'block-dirty-bitmap-remove', data: { node: 'disk', name } })),
    })}`;
  const done = server(answers);
  const dropped = await dropRunningCheckpoints(done.steering, ['disk'], 'older', {
    series: 'backup',
    scratch,
  });
  assert.deepEqual(dropped, [{ image: 'disk', checkpoint: first }]);
  assert.deepEqual(done.asked, [...down, remove(first)]);
  const all = server(answers);
  await dropRunningCheckpoints(all.steering, ['disk'], 'all', { series: 'backup', scratch });
  assert.deepEqual(all.asked, [...down, remove(first, second)]);
  const released = server(answers);
  await releaseRunning(released.steering, ['disk'], { series: 'backup', scratch });
  assert.deepEqual(released.asked, down);
  assert.equal(names.size, 0);
});

test('a disk is held still only while its job runs and its export is there', async () => {
  const id = 'strata-89abcdef';
  const held = (jobs: readonly object[], exports: readonly object[]) =>
    assertHeld(server({ 'query-jobs': () => jobs, 'query-block-exports': () => exports }).steering, {
      disk: '89abcdef',
    });
  await held([{ id, status: 'running' }], [{ id }]);
  for (const [jobs, exports] of [
    [[], [{ id }]],
    [[{ id, status: 'concluded' }], [{ id }]],
    [[{ id, status: 'running' }], []],
    [[{ id: 'strata-00000000', status: 'running' }], [{ id }]],
  ] as const)
    await assert.rejects(held(jobs, exports), (error) => isDiskError(error, 'invalid'));
});

test('answers that make no sense are the fault of the server', async () => {
  for (const answer of [
    {},
    [{ 'node-name': 'disk' }],
    [{ 'node-name': 'disk', image: { 'virtual-size': -1 } }],
    [{ 'node-name': 'disk', image: { 'virtual-size': 1e300 } }],
    [{ ...node(), 'dirty-bitmaps': 7 }],
  ]) {
    const { steering } = server({ 'query-named-block-nodes': () => answer });
    await assert.rejects(runningNodes(steering, ['disk']), (error) => isDiskError(error, 'protocol'));
  }
  const { steering } = server({ 'query-named-block-nodes': () => [null, 7, { 'node-name': 'other' }] });
  await assert.rejects(runningNodes(steering, ['disk']), (error) => isDiskError(error, 'not-found'));
  const { steering: odd } = server({
    'query-named-block-nodes': () => [node({}, 7, { name: 7 }, bitmap('b', true))],
  });
  const [found] = await runningNodes(odd, ['disk']);
  assert.deepEqual(found?.bitmaps, [{ name: 'b', enabled: true, inconsistent: false, count: 0 }]);
  assert.equal(checkpointIn('a cat'), undefined);
  assert.equal(checkpointIn(`checkpoint ${'x'.repeat(2000)}`), undefined);
  assert.equal(checkpointIn(describeCheckpoint(first)), first);
});
