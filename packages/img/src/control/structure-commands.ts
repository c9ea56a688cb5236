/** The commands that are single steps of changing disks in use: each pauses the disks, as a transaction does. */
import { commandOf, type QmpCommand } from '@strata/qmp';
import { type ActionKind, runAction } from './action.ts';
import type { Steering } from './steering.ts';
import { paused } from './transaction.ts';

/** A command for each kind of step. @param actions by the names of the commands */
export function structureCommands(
  { graph }: Steering,
  actions: Readonly<Record<string, ActionKind>>,
): readonly QmpCommand[] {
  return Object.entries(actions).map(([name, kind]) =>
    commandOf(name, kind.data, async (data) => {
      await paused(graph.disks, async () => {
        await runAction(kind.make(data, undefined));
      });
      return undefined;
    }),
  );
}
