/**
 * The story of backups of a running server: checkpoints, a full backup and three incremental ones while a guest goes on writing,
 * and each of them restored. It needs nothing but QMP and NBD, so it is told of any server that speaks both.
 */
import assert from 'node:assert/strict';
import {
  cuttingProxy,
  qemuImg,
  qemuIo,
  type Random,
  randomFrom,
  type TemporaryFolder,
} from '@strata/testkit';
import { img } from '../img.ts';
import { assertOneMoment, type MovingGuest } from './moving-guest.ts';

/** A server whose nodes are exported for writing under their own names. */
export interface StoryServer {
  /** The unix socket of its QMP monitor, and of its NBD server. */
  readonly control: string;
  readonly socket: string;
}

/** A node, with the size of its disk. */
export interface StoryNode {
  readonly name: string;
  readonly size: number;
}

const rounds = 4;

/** The URI of an export. */
export function uriOf(socket: string, name: string): string {
  return `nbd+unix:///${encodeURIComponent(name)}?socket=${socket}`;
}

/** Some writes of a guest, of all sorts. */
export function guestWrites(random: Random, size: number, count: number): readonly string[] {
  return Array.from({ length: count }, () => {
    const length = 512 * (1 + random.upTo(300));
    const at = 512 * random.upTo(Math.floor((size - length) / 512));
    const kind = random.upTo(9);
    if (kind === 0) return `write -z ${at} ${length}`;
    if (kind === 1) return `write -z -u ${at} ${length}`;
    return `write -P ${1 + random.upTo(254)} ${at} ${length}`;
  });
}

interface Report {
  readonly kind: string;
  readonly checkpoint: string;
  readonly 'changed-bytes': number;
  readonly 'read-bytes': number;
  readonly 'overhead-bytes': number;
}

interface Listed {
  readonly image: string;
  readonly checkpoint: string;
  readonly state: string;
  readonly 'dirty-bytes': number;
}

async function json<T>(...words: readonly string[]): Promise<T> {
  return JSON.parse(await img.ok(...words, '--output=json')) as T;
}

/**
 * Tells the story.
 *
 * @param beside guests that write all the time, one for each node: then the state of a checkpoint is what the server shows of
 *   it, which must be of one moment. Without them it is what the disk held when nobody wrote.
 */
export async function backupStory(
  { control, socket }: StoryServer,
  nodes: readonly StoryNode[],
  folder: TemporaryFolder,
  beside?: readonly MovingGuest[],
): Promise<void> {
  const random = randomFrom(20);
  const names = nodes.map(({ name }) => name);
  const steer = ['--control', control, '--scratch', folder.path];
  const writeSome = async (count: number): Promise<void> => {
    for (const { name, size } of nodes)
      await qemuIo(uriOf(socket, name), guestWrites(random, size, count), 'raw');
  };
  await using proxy = await cuttingProxy(folder.file('proxied'), socket);
  for (let round = 0; round < rounds; round++) {
    const save = async (exported: (name: string) => string): Promise<void> => {
      for (const { name } of nodes) {
        const saved = folder.file(`${name}.${round}`);
        await qemuImg.ok('convert', '-f', 'raw', '-O', 'raw', uriOf(socket, exported(name)), saved);
      }
    };
    if (beside === undefined) await writeSome(20);
    if (beside === undefined) await save((name) => name);
    for (const guest of beside ?? []) await guest.goOn(100);
    const before = beside?.map((guest) => guest.moment());
    await img.ok('checkpoint', 'create', '-q', ...steer, ...names);
    const after = beside?.map((guest) => guest.moment());
    if (beside !== undefined) await save((name) => `backup-${name}`);
    for (const [index, { name }] of nodes.entries()) {
      const [from, to] = [before?.[index], after?.[index]];
      if (from && to) await assertOneMoment(folder.file(`${name}.${round}`), from, to);
    }
    // Others write what the backup has not read yet.
    if (beside === undefined) await writeSome(5);
    for (const guest of beside ?? []) await guest.goOn(100);
    const listed = await json<readonly Listed[]>('checkpoint', 'list', '--control', control, ...names);
    for (const { name, size } of nodes) {
      const passed = proxy.bytes.down;
      const shown = uriOf(folder.file('proxied'), `backup-${name}`);
      const target = folder.file(`${name}.backups`);
      const taking = json<Report>('backup', '--control', control, shown, target);
      const [report] = await Promise.all([taking, beside === undefined ? writeSome(3) : undefined]);
      const frozen = listed.find(({ image, state }) => image === name && state === 'frozen');
      assert.equal(report.kind, round === 0 ? 'full' : 'incremental');
      assert.equal(report['changed-bytes'], round === 0 ? size : frozen?.['dirty-bytes']);
      assert.equal(report['overhead-bytes'], 0);
      assert.ok(report['read-bytes'] <= report['changed-bytes']);
      const beyond = proxy.bytes.down - passed - report['read-bytes'];
      assert.ok(beyond >= 0 && beyond < 65_536 + report['read-bytes'] / 50, `${beyond} bytes of protocol`);
    }
    await img.ok('checkpoint', 'done', '-q', ...steer, ...names);
  }
  for (const { name } of nodes) {
    for (let round = 0; round < rounds; round++) {
      const back = folder.file(`${name}.back`);
      await img.ok(
        'restore',
        '-q',
        '--point',
        String(round + 1),
        folder.file(`${name}.backups`),
        `${back}.${round}`,
      );
      await qemuImg.compare(`${back}.${round}`, 'raw', folder.file(`${name}.${round}`), 'raw');
    }
    const checked = await json<readonly { readonly problem?: string }[]>(
      'backup',
      '--verify',
      folder.file(`${name}.backups`),
    );
    assert.equal(checked.length, rounds);
  }
}
