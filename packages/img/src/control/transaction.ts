/**
 * `transaction`: several steps, all or none, at one moment of all disks.
 *
 * All disks are paused meanwhile: a write is before all steps or after all of them, so that of two bitmaps that take
 * turns one has it for certain, and so that a step can be undone as if it had not been.
 */
import { JobGroup, type LiveDisk, type Resume } from '@strata/live';
import { choice, commandOf, list, optional, type QmpCommand, record, refusal, union } from '@strata/qmp';
import type { Action, ActionKind } from './action.ts';
import type { Steering } from './steering.ts';

const properties = record({ 'completion-mode': optional(choice('individual', 'grouped')) });

const abort: ActionKind = {
  data: record({}),
  grouped: true,
  make: () => ({ prepare: () => Promise.reject(refusal('Transaction aborted using Abort action')) }),
};

/** The command. @param others the steps that it knows beside `abort`, by name */
export function transactionCommand(
  steering: Steering,
  others: Readonly<Record<string, ActionKind>>,
): QmpCommand {
  const kinds: Readonly<Record<string, ActionKind>> = { abort, ...others };
  const branches = Object.fromEntries(Object.entries(kinds).map(([name, { data }]) => [name, { data }]));
  const schema = record({ actions: list(union('type', {}, branches)), properties: optional(properties) });
  return commandOf('transaction', schema, async ({ actions, properties: wishes }) => {
    const group = wishes?.['completion-mode'] === 'grouped' ? new JobGroup() : undefined;
    const steps = actions as readonly { readonly type: string; readonly data: unknown }[];
    await paused(steering.graph.disks, () =>
      carryOut(
        steps.map(({ type, data }) => stepOf(kinds, type, data, group)),
        steering,
      ),
    );
    return undefined;
  });
}

function stepOf(
  kinds: Readonly<Record<string, ActionKind>>,
  type: string,
  data: unknown,
  group: JobGroup | undefined,
): Action {
  const kind = kinds[type] as ActionKind;
  if (group === undefined || kind.grouped) return kind.make(data, group);
  const property = 'Transaction property completion-mode = grouped';
  return { prepare: () => Promise.reject(refusal(`Action '${type}' does not support ${property}`)) };
}

/** Runs `work` while none of `disks` takes changes. */
export async function paused(disks: readonly LiveDisk[], work: () => Promise<void>): Promise<void> {
  const resumes: Resume[] = [];
  try {
    for (const disk of disks) resumes.push(await disk.pause());
    await work();
  } finally {
    for (const resume of resumes) resume();
  }
}

async function carryOut(steps: readonly Action[], { report }: Steering): Promise<void> {
  const prepared: Action[] = [];
  try {
    for (const step of steps) {
      await step.prepare();
      prepared.push(step);
    }
  } catch (error) {
    // The last one first. One that cannot be undone does not keep the others from it.
    for (const step of prepared.reverse()) await step.abort?.().catch(report);
    for (const step of steps) step.clean?.();
    throw error;
  }
  const failures: unknown[] = [];
  for (const step of steps) await step.commit?.().catch((error: unknown) => failures.push(error));
  for (const step of steps) step.clean?.();
  if (failures.length > 0) throw failures[0];
}
