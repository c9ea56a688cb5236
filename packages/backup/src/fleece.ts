/**
 * A disk of a running server, held still beside the disk that goes on: what is about to be overwritten is copied to a
 * scratch image first (`blockdev-backup` with `sync=none`), and the scratch image over the disk is exported.
 *
 * If the scratch image cannot take more the server drops the job, and the export then shows newer bytes without a
 * word. So whoever reads it asks at the end whether the job still runs.
 */
import { DiskError } from '@strata/block';
import { isListed, type Steering } from './running-nodes.ts';

/** Where the scratch images are: a folder that the server sees by the same name. */
export interface ScratchFolder {
  /** Makes an empty qcow2 image without a backing file, in the place of one that is there. Returns its path. */
  make(name: string, size: number): Promise<string>;
  /** Removes it, if it is there. */
  remove(name: string): Promise<void>;
}

/** A disk to be held still. */
export interface Fleece {
  readonly node: string;
  /** Of the series and disk (`CheckpointName.disk`): names everything that is made. */
  readonly disk: string;
}

/** The id of the job, of the export and of the node. QEMU takes 31 characters. */
function idOf({ disk }: Pick<Fleece, 'disk'>): string {
  return `strata-${disk}`;
}

function fileOf(fleece: Pick<Fleece, 'disk'>): string {
  return `${idOf(fleece)}.qcow2`;
}

/** What an export is called that holds a disk still. */
export function exportNameOf(series: string, node: string): string {
  return `${series}-${node}`;
}

/** What an export says of itself that shows a disk at a checkpoint. */
export function describeCheckpoint(checkpoint: string): string {
  return `checkpoint ${checkpoint}`;
}

/** The checkpoint that a description names; undefined if it is not one of ours. */
export function checkpointIn(description: string | undefined): string | undefined {
  return /^checkpoint (\S{1,1023})$/.exec(description ?? '')?.[1];
}

/** Opens the scratch image over the disk. Returns the action of the transaction that begins the job. */
export async function prepareFleece(
  server: Steering,
  scratch: ScratchFolder,
  fleece: Fleece,
  size: number,
): Promise<object> {
  const id = idOf(fleece);
  const filename = await scratch.make(fileOf(fleece), size);
  const file = { driver: 'file', filename };
  await server.execute('blockdev-add', { driver: 'qcow2', 'node-name': id, file, backing: fleece.node });
  return {
    type: 'blockdev-backup',
    data: { 'job-id': id, device: fleece.node, target: id, sync: 'none' },
  };
}

/** Exports what is held still, with the bitmaps that record no more. */
export async function exportFleece(
  server: Steering,
  fleece: Fleece,
  called: { readonly name: string; readonly description: string },
  bitmaps: readonly string[],
): Promise<void> {
  const id = idOf(fleece);
  await server.execute('block-export-add', {
    type: 'nbd',
    id,
    'node-name': id,
    ...called,
    ...(bitmaps.length > 0 && { bitmaps: bitmaps.map((name) => ({ node: fleece.node, name })) }),
  });
}

/** Takes down whatever there is of it. What is not there is passed over. */
export async function releaseFleece(
  server: Steering,
  fleece: Pick<Fleece, 'disk'>,
  scratch: ScratchFolder | undefined,
  hasNode: (name: string) => Promise<boolean>,
): Promise<void> {
  const id = idOf(fleece);
  if (await isListed(server, 'query-block-exports', id)) {
    const deleted = server.event('BLOCK_EXPORT_DELETED', (data) => data['id'] === id);
    await settled(deleted, server.execute('block-export-del', { id, mode: 'hard' }));
  }
  if (await isListed(server, 'query-jobs', id)) {
    const isOver = (data: Readonly<Record<string, unknown>>) =>
      data['id'] === id && data['status'] === 'null';
    const over = server.event('JOB_STATUS_CHANGE', isOver);
    await settled(over, server.execute('block-job-cancel', { device: id }));
  }
  if (await hasNode(id)) await server.execute('blockdev-del', { 'node-name': id });
  await scratch?.remove(fileOf(fleece));
}

/** Waits for both; a command that is refused has no event to wait for. */
async function settled(event: Promise<unknown>, command: Promise<unknown>): Promise<void> {
  event.catch(() => undefined);
  await command;
  await event;
}

/** @throws {DiskError} invalid if the disk is not held still any more */
export async function assertHeld(server: Steering, fleece: Pick<Fleece, 'disk'>): Promise<void> {
  const id = idOf(fleece);
  const isRunning = await isListed(server, 'query-jobs', id, ({ status }) => status === 'running');
  if (isRunning && (await isListed(server, 'query-block-exports', id))) return;
  const message =
    'the server does not hold the disk at its checkpoint any more (is the scratch folder full?): make a new checkpoint';
  throw new DiskError('invalid', message);
}
