/** The commands that are about bitmaps. */
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DirtyBitmap } from '@strata/bitmap';
import { command, commandOf, type QmpCommand } from '@strata/qmp';
import { type ActionKind, runAction } from './action.ts';
import { nodeAndName } from './bitmap-actions.ts';
import { checkBitmap, contentOf, findBitmap } from './bitmaps.ts';
import type { Steering } from './steering.ts';

/** A command for each kind of step, and what only looks. @param actions by the names of the commands */
export function bitmapCommands(
  { graph }: Steering,
  actions: Readonly<Record<string, ActionKind>>,
): readonly QmpCommand[] {
  const steps = Object.entries(actions).map(([name, kind]) =>
    commandOf(name, kind.data, (data) => runAction(kind.make(data, undefined))),
  );
  const sum = command('x-debug-block-dirty-bitmap-sha256', nodeAndName, async ({ node, name }) => {
    const found = await findBitmap(graph, node, name);
    if (found.facts.inconsistent) checkBitmap(found, { readOnly: true });
    return { sha256: await sha256Of(await contentOf(found)) };
  });
  return [...steps, sum];
}

/** Bits that are hashed at a time. */
const pieceBits = 8 * 1024 * 1024;

/** The sum that QEMU makes: over a bit a granule, in whole words of 64 bits, one at least. */
async function sha256Of(bitmap: DirtyBitmap): Promise<string> {
  const granules = Math.ceil(bitmap.size / bitmap.granularity);
  const bits = 64 * Math.max(1, Math.ceil(granules / 64));
  const hash = createHash('sha256');
  for (let at = 0; at < bits; at += pieceBits) {
    const piece = Buffer.alloc(Math.min(pieceBits, bits - at) / 8);
    bitmap.exportBits(at, piece);
    hash.update(piece);
    await nextTurn();
  }
  return hash.digest('hex');
}
