/**
 * What is done to a disk in use by QMP, command by command, on qemu-storage-daemon and on our server: replies, refusals and
 * events are the same.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectQmp, type QmpClient, QmpError } from '@strata/qmp';
import {
  qcow2Blockdev,
  qemuImg,
  qemuIo,
  requires,
  runOk,
  type Server,
  storageDaemon,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { imgServe } from '../img.ts';

const tools = requires('qemu-storage-daemon', 'qemu-img', 'qemu-io');

/** What happens in a scenario. */
type Step =
  /** A command; arguments may say DIR. */
  | readonly [command: string, given?: object]
  /** Waits for an event of this name or a state of a job. */
  | { readonly until: string }
  /** A guest, or a reader of another export. */
  | { readonly io: readonly string[]; readonly read?: string };

interface Scenario {
  readonly title: string;
  readonly steps: readonly Step[];
}

const add = (node: string, more: object = {}): Step => [
  'blockdev-add',
  qcow2Blockdev(node, `DIR/${node}.qcow2`, more),
];
const backup = (more: object = {}): Step => [
  'blockdev-backup',
  { 'job-id': 'j', device: 'disk', target: 'target', sync: 'full', ...more },
];
const commit = (more: object = {}): Step => ['block-commit', { 'job-id': 'c', device: 'disk', ...more }];
const snapshot = (more: object = {}): Step => [
  'blockdev-snapshot-sync',
  { 'node-name': 'disk', 'snapshot-file': 'DIR/new.qcow2', 'snapshot-node-name': 'over', ...more },
];
const bitmap: Step = ['block-dirty-bitmap-add', { node: 'disk', name: 'b0', persistent: true }];
const gone: Step = { until: 'null' };
const exportsOf: Step = ['query-block-exports'];
const query: readonly Step[] = [['query-jobs'], ['query-block-jobs']];

const scenarios: readonly Scenario[] = [
  {
    title: 'a full backup',
    steps: [add('target'), backup(), gone, ...query, ['blockdev-del', { 'node-name': 'target' }]],
  },
  {
    title: 'a backup that is finalized and dismissed by command',
    steps: [
      add('target'),
      backup({ 'auto-finalize': false, 'auto-dismiss': false }),
      { until: 'BLOCK_JOB_PENDING' },
      ...query,
      ...['job-complete', 'job-dismiss', 'job-pause', 'job-resume'].map((name): Step => [name, { id: 'j' }]),
      ['block-job-complete', { device: 'j' }],
      ['blockdev-backup', { 'job-id': 'k', device: 'disk', target: 'target', sync: 'full' }],
      ['blockdev-del', { 'node-name': 'target' }],
      ['job-finalize', { id: 'j' }],
      { until: 'concluded' },
      ...query,
      ['job-finalize', { id: 'j' }],
      ['job-dismiss', { id: 'j' }],
      ['job-dismiss', { id: 'j' }],
      ...query,
    ],
  },
  {
    title: 'a slow backup that is paused, resumed and cancelled',
    steps: [
      add('target'),
      backup({ speed: 65_536 }),
      { until: 'running' },
      ['job-pause', { id: 'j' }],
      { until: 'paused' },
      ['job-pause', { id: 'j' }],
      ['block-job-pause', { device: 'j' }],
      ['block-job-cancel', { device: 'j' }],
      ['job-resume', { id: 'j' }],
      { until: 'running' },
      ['job-resume', { id: 'j' }],
      ['block-job-set-speed', { device: 'j', speed: 100_000 }],
      ['block-job-set-speed', { device: 'j', speed: -1 }],
      ['job-complete', { id: 'j' }],
      ['block-job-cancel', { device: 'j' }],
      gone,
      ...query,
      ['block-job-cancel', { device: 'j' }],
      ['job-cancel', { id: 'j' }],
      ['block-job-set-speed', { device: 'j', speed: 1 }],
      ['block-job-finalize', { id: 'j' }],
    ],
  },
  {
    title: 'fleecing: the target shows the disk as it was while it is written',
    steps: [
      add('fleece', { backing: 'disk' }),
      backup({ target: 'fleece', sync: 'none' }),
      ['block-export-add', { type: 'nbd', id: 'f', 'node-name': 'fleece', name: 'fleece' }],
      { io: ['write -P 9 0 64k', 'write -P 9 1000k 100k', 'discard 3M 1M', 'write -z 2M 4k', 'flush'] },
      { read: 'fleece', io: ['read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 3 2M 1M', 'read -P 0 3M 1M'] },
      // Its last client may not be known to have left.
      ['block-export-del', { id: 'f', mode: 'hard' }],
      { until: 'BLOCK_EXPORT_DELETED' },
      ['job-complete', { id: 'j' }],
      ['job-cancel', { id: 'j' }],
      gone,
      { io: ['read -P 9 0 64k', 'read -P 9 1000k 100k', 'read -P 2 1100k 900k'] },
      ['blockdev-del', { 'node-name': 'fleece' }],
    ],
  },
  {
    title: 'a commit of the top',
    steps: [
      commit(),
      { until: 'BLOCK_JOB_READY' },
      ...query,
      { io: ['write -P 4 3M 64k'] },
      ['job-complete', { id: 'c' }],
      gone,
      exportsOf,
      { io: ['read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 3 2M 1M', 'read -P 4 3M 64k', 'write -P 5 0 4k'] },
    ],
  },
  {
    title: 'what is refused while jobs go on',
    steps: [
      add('target'),
      commit(),
      { until: 'BLOCK_JOB_READY' },
      snapshot(),
      backup(),
      ['block-job-complete', { device: 'c' }],
      gone,
      ['block-job-complete', { device: 'c' }],
    ],
  },
  {
    title: 'a commit of the top that is let go, and one that is cancelled',
    steps: [
      commit(),
      { until: 'BLOCK_JOB_READY' },
      ['block-job-cancel', { device: 'c' }],
      gone,
      exportsOf,
      commit({ 'auto-finalize': false }),
      { until: 'BLOCK_JOB_READY' },
      ['job-cancel', { id: 'c' }],
      gone,
      exportsOf,
      { io: ['read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 3 2M 1M'] },
    ],
  },
  {
    title: 'a commit of an image between',
    steps: [
      commit({ top: 'DIR/mid.qcow2', base: 'DIR/base.qcow2' }),
      gone,
      exportsOf,
      { io: ['read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 3 2M 1M', 'write -P 5 0 4k'] },
    ],
  },
  {
    title: 'commits that are refused',
    steps: [
      commit({ 'top-node': 'nope' }),
      commit({ 'base-node': 'nope' }),
      commit({ device: 'nope' }),
      commit({ 'base-node': 'disk' }),
      commit({ base: 'DIR/nope' }),
      commit({ top: 'DIR/nope' }),
      commit({ top: 'DIR/mid.qcow2', base: 'DIR/mid.qcow2' }),
      commit({ top: 'DIR/base.qcow2' }),
      commit({ top: 'DIR/mid.qcow2', 'top-node': 'disk' }),
      commit({ base: 'DIR/base.qcow2', 'base-node': 'disk' }),
      commit({ 'job-id': '1bad' }),
      ['block-commit', { device: 'disk' }],
      commit({ 'backing-file': 'xyz' }),
      ['block-commit', { 'job-id': 'c' }],
      commit({ device: 7 }),
      commit({ unknown: 1 }),
    ],
  },
  {
    title: 'incremental backups by a bitmap, and what of them is refused',
    steps: [
      add('target'),
      add('small'),
      bitmap,
      { io: ['write -P 7 0 128k', 'flush'] },
      backup({ sync: 'incremental', bitmap: 'b0' }),
      gone,
      ['x-debug-block-dirty-bitmap-sha256', { node: 'disk', name: 'b0' }],
      { io: ['write -P 8 3M 64k', 'flush'] },
      backup({ sync: 'bitmap', bitmap: 'b0', 'bitmap-mode': 'never', 'auto-finalize': false }),
      { until: 'BLOCK_JOB_PENDING' },
      ['block-dirty-bitmap-clear', { node: 'disk', name: 'b0' }],
      ['block-dirty-bitmap-remove', { node: 'disk', name: 'b0' }],
      ['job-finalize', { id: 'j' }],
      gone,
      backup({ bitmap: 'b0', 'bitmap-mode': 'on-success', 'auto-finalize': false }),
      { until: 'BLOCK_JOB_PENDING' },
      ['job-cancel', { id: 'j' }],
      gone,
      ['x-debug-block-dirty-bitmap-sha256', { node: 'disk', name: 'b0' }],
      backup({ sync: 'top', bitmap: 'b0', 'bitmap-mode': 'always' }),
      gone,
      ['x-debug-block-dirty-bitmap-sha256', { node: 'disk', name: 'b0' }],
      backup({ sync: 'incremental' }),
      backup({ sync: 'bitmap' }),
      backup({ sync: 'bitmap', bitmap: 'b0' }),
      backup({ sync: 'bitmap', bitmap: 'nope', 'bitmap-mode': 'never' }),
      backup({ sync: 'incremental', bitmap: 'b0', 'bitmap-mode': 'never' }),
      backup({ sync: 'none', bitmap: 'b0', 'bitmap-mode': 'always' }),
      backup({ bitmap: 'b0' }),
      backup({ 'bitmap-mode': 'never' }),
      backup({ bitmap: 'b0', 'bitmap-mode': 'never' }),
      backup({ target: 'small' }),
      backup({ target: 'disk' }),
      backup({ device: 'nope' }),
      backup({ target: 'nope' }),
      backup({ sync: 'wrong' }),
      ['blockdev-backup', { device: 'disk', target: 'target', sync: 'full' }],
      ['blockdev-backup', { 'job-id': 'j', device: 'disk', target: 'target' }],
    ],
  },
  {
    title: 'jobs of one transaction',
    steps: [
      add('target'),
      add('small'),
      add('second'),
      [
        'transaction',
        {
          actions: [
            {
              type: 'blockdev-backup',
              data: { 'job-id': 'a', device: 'disk', target: 'target', sync: 'full' },
            },
            {
              type: 'blockdev-backup',
              data: { 'job-id': 'j', device: 'small', target: 'second', sync: 'full' },
            },
          ],
          properties: { 'completion-mode': 'grouped' },
        },
      ],
      { until: 'null' },
      [
        'transaction',
        {
          actions: [
            {
              type: 'blockdev-backup',
              data: { 'job-id': 'a', device: 'disk', target: 'target', sync: 'full' },
            },
            { type: 'abort', data: {} },
          ],
        },
      ],
      [
        'transaction',
        {
          actions: [
            {
              type: 'blockdev-backup',
              data: { 'job-id': 'a', device: 'disk', target: 'target', sync: 'full' },
            },
            {
              type: 'blockdev-snapshot-sync',
              data: { 'node-name': 'small', 'snapshot-file': 'DIR/s.qcow2', 'snapshot-node-name': 's' },
            },
          ],
          properties: { 'completion-mode': 'grouped' },
        },
      ],
      [
        'transaction',
        {
          actions: [
            {
              type: 'blockdev-snapshot-sync',
              data: { 'node-name': 'disk', 'snapshot-file': 'DIR/s.qcow2', 'snapshot-node-name': 's' },
            },
            { type: 'abort', data: {} },
          ],
        },
      ],
      exportsOf,
      ...query,
    ],
  },
  {
    title: 'snapshots of a disk in use',
    steps: [
      snapshot({ 'node-name': 'nope' }),
      ['blockdev-snapshot-sync', { 'snapshot-file': 'DIR/new.qcow2', 'snapshot-node-name': 'over' }],
      ['blockdev-snapshot-sync', { device: 'disk', 'snapshot-file': 'DIR/new.qcow2' }],
      ['blockdev-snapshot-sync', { 'node-name': 'disk', 'snapshot-file': 'DIR/new.qcow2' }],
      snapshot({ 'snapshot-file': '/nonexistent/new.qcow2' }),
      snapshot({ format: 'bogus' }),
      snapshot({ format: 'raw' }),
      snapshot({ mode: 'existing', 'snapshot-file': 'DIR/none.qcow2' }),
      snapshot({ mode: 'wrong' }),
      snapshot({ 'snapshot-node-name': 'disk' }),
      snapshot({ 'snapshot-node-name': '#bad' }),
      exportsOf,
      snapshot(),
      exportsOf,
      { io: ['write -P 6 0 64k', 'read -P 2 1M 1M', 'flush'] },
      snapshot({ 'snapshot-node-name': 'other' }),
      snapshot({ 'node-name': 'over', 'snapshot-node-name': 'third', 'snapshot-file': 'DIR/third.qcow2' }),
      { io: ['write -P 7 3M 64k', 'read -P 6 0 64k'] },
      exportsOf,
      commit({ device: 'third', 'top-node': 'over', 'base-node': 'disk' }),
      gone,
      { io: ['read -P 6 0 64k', 'read -P 7 3M 64k'] },
    ],
  },
];

/** Makes the images of a scenario; the disk is `top.qcow2`. */
async function makeImages({ file }: TemporaryFolder): Promise<void> {
  const image = async (name: string, size: string, backing?: string): Promise<string> => {
    const path = file(`${name}.qcow2`);
    const under = backing && { backing: { name: file(`${backing}.qcow2`), format: 'qcow2' } };
    await qemuImg.create(path, size, under || {});
    return path;
  };
  await qemuIo(await image('base', '4M'), ['write -P 1 0 2M']);
  await qemuIo(await image('mid', '4M', 'base'), ['write -P 2 1M 1M']);
  await qemuIo(await image('top', '4M', 'mid'), ['write -P 3 2M 1M']);
  await image('target', '4M');
  await image('fleece', '4M', 'top');
  await image('small', '1M');
  await image('second', '1M');
}

/** A server, and how it is steered. */
interface Steered {
  readonly server: Server;
  readonly qmp: QmpClient;
  uri(name: string): string;
}

async function daemonIn(folder: TemporaryFolder): Promise<Steered> {
  const server = await storageDaemon(folder.path, {
    blockdevs: [qcow2Blockdev('disk', folder.file('top.qcow2'))],
    exports: [{ id: 'disk', 'node-name': 'disk', name: 'disk', writable: true }],
  });
  return { server, qmp: server.qmp, uri: (name) => server.uri(name) };
}

async function oursIn(folder: TemporaryFolder): Promise<Steered> {
  const [socket, control] = [folder.file('nbd'), folder.file('control')];
  const server = await imgServe(socket, [
    '--control',
    control,
    '-f',
    'qcow2',
    `disk=${folder.file('top.qcow2')}`,
  ]);
  const qmp = await connectQmp({ path: control });
  return { server, qmp, uri: (name) => `nbd+unix:///${name}?socket=${socket}` };
}

/** What was said to the steps of a scenario, and what was told meanwhile. */
interface Told {
  readonly replies: readonly unknown[];
  readonly events: readonly unknown[];
}

async function runOn(
  start: (folder: TemporaryFolder) => Promise<Steered>,
  steps: readonly Step[],
): Promise<Told> {
  await using folder = await temporaryFolder();
  await makeImages(folder);
  const { server, qmp, uri } = await start(folder);
  const replies: unknown[] = [];
  const events: object[] = [];
  let heard = 0;
  let wake = (): void => undefined;
  const listening = (async () => {
    for await (const { event, data } of qmp.events()) {
      events.push({ event, data });
      wake();
    }
  })();
  const until = async (what: string): Promise<void> => {
    for (;;) {
      for (; heard < events.length; heard++) {
        const { event, data } = events[heard] as { event: string; data: { status?: string } };
        if (event !== what && data.status !== what) continue;
        heard++;
        return;
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const inFolder = (given: object): object =>
    JSON.parse(JSON.stringify(given).replaceAll('DIR', folder.path)) as object;
  try {
    for (const step of steps) {
      if ('until' in step) {
        const last = replies.at(-1) as { readonly reply: object } | undefined;
        assert.ok(
          last !== undefined && !('class' in last.reply),
          `nothing to wait for: ${JSON.stringify(last)}`,
        );
        await until(step.until);
      } else if ('io' in step && step.read === undefined) await qemuIo(uri('disk'), step.io, 'raw');
      else if ('io' in step) {
        const commands = step.io.flatMap((each) => ['-c', each]);
        const said = await runOk('qemu-io', ['-r', '-f', 'raw', ...commands, uri(step.read as string)]);
        assert.doesNotMatch(said, /fail/);
      } else {
        const [command, given = {}] = step;
        const reply = await qmp.execute(command, inFolder(given)).catch((error: unknown) => {
          if (!(error instanceof QmpError)) throw error;
          return { class: error.kind, desc: error.message };
        });
        replies.push({ command, given, reply });
      }
    }
  } finally {
    await qmp[Symbol.asyncDispose]();
    await server.stop();
    await listening.catch(() => undefined);
  }
  return { replies: plain(replies, folder), events: withoutPauses(plain(events, folder)) };
}

/** Without what differs from run to run: the folder, generated names, how far a job had come when it was cancelled. */
function plain(values: readonly unknown[], { path }: TemporaryFolder): readonly unknown[] {
  return values.map((value) => {
    const text = JSON.stringify(value)
      .replaceAll(path, 'DIR')
      .replaceAll(/#block\d+/g, '#block');
    return JSON.parse(text, (_key, member: unknown) => {
      if (typeof member !== 'object' || member === null || !('event' in member)) return member;
      const { event, data } = member as { event: string; data: object };
      return event === 'BLOCK_JOB_CANCELLED' ? { event, data: { ...data, offset: 0, len: 0 } } : member;
    }) as unknown;
  });
}

/** The daemon's jobs are paused, and tell so, whenever it pauses a disk for a moment: when that is depends on the moment. */
function withoutPauses(events: readonly unknown[]): readonly unknown[] {
  const began = new Set<string>();
  return (events as readonly { readonly data: { readonly id?: string; readonly status?: string } }[]).filter(
    ({ data: { id, status } }) => {
      if (status === 'paused' || status === 'standby') return false;
      const isAgain = began.has(`${id} ${status}`) && (status === 'running' || status === 'ready');
      if (status === 'null') for (const state of ['running', 'ready']) began.delete(`${id} ${state}`);
      else began.add(`${id} ${status}`);
      return !isAgain;
    },
  );
}

for (const { title, steps } of scenarios) {
  test(`${title}: our server says what the daemon says`, tools, async () => {
    const theirs = await runOn(daemonIn, steps);
    const ours = await runOn(oursIn, steps);
    assert.deepEqual(ours.replies, theirs.replies);
    assert.deepEqual(ours.events, theirs.events);
  });
}
