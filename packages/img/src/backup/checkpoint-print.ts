/** What `checkpoint` prints, for people and as JSON. */
import type { Checkpoint } from '@strata/backup';
import { formatSize } from '@strata/block';
import type { JsonObject } from '../print/json.ts';

/** A checkpoint of an image or a node. */
export interface ListedCheckpoint {
  readonly image: string;
  readonly checkpoint: Checkpoint;
  /** Dirty bytes; undefined where they are not known. */
  readonly dirty: number | undefined;
}

function stateOf({ enabled, inconsistent, parts }: Checkpoint): string {
  if (inconsistent) return 'inconsistent';
  if (parts.unfinishedOf !== undefined) return 'unfinished';
  return enabled ? 'recording' : 'frozen';
}

/** A list as JSON. */
export function listedJson(found: readonly ListedCheckpoint[]): readonly JsonObject[] {
  return found.map(({ image, checkpoint, dirty }) => ({
    image,
    checkpoint: checkpoint.name,
    state: stateOf(checkpoint),
    'dirty-bytes': dirty,
  }));
}

/** A list for people. */
export function listedLines(found: readonly ListedCheckpoint[]): string {
  const rows = found.map(({ image, checkpoint, dirty }) => [
    checkpoint.name,
    stateOf(checkpoint),
    dirty === undefined ? '-' : formatSize(dirty),
    image,
  ]);
  return [['CHECKPOINT', 'STATE', 'CHANGED', 'IMAGE'], ...rows]
    .map(([name = '', state = '', changed = '', image = '']) => {
      return `${name.padEnd(32)}${state.padEnd(14)}${changed.padEnd(12)}${image}\n`;
    })
    .join('');
}
