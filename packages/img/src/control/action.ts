/**
 * A step of a transaction: it is done so that it can be undone until all steps have been done.
 *
 * QEMU: blockdev.c, `TransactionActionDrv`.
 */
import type { JobGroup } from '@strata/live';
import { type Fields, type Read, record, type Schema } from '@strata/qmp';

/** One step. All disks are paused from its preparation to its end. */
export interface Action {
  /** Does it, so that `abort` can undo it. If it fails it has left nothing behind. @throws {QmpError} and DiskErrors */
  prepare(): Promise<void>;
  /** All steps were prepared: makes it last. */
  commit?(): Promise<void>;
  /** A later step could not be prepared: undoes it. */
  abort?(): Promise<void>;
  /** The last call, after either. */
  clean?(): void;
}

/** A kind of step, as a transaction names it. */
export interface ActionKind {
  readonly data: Schema<unknown>;
  /** Steps of this kind can be parts of a transaction whose jobs end together. */
  readonly grouped?: true;
  /** @param group of which a job of the step becomes a part; undefined: it ends by itself */
  make(data: unknown, group: JobGroup | undefined): Action;
}

/** A kind of step whose data has these members. */
export function actionKind<F extends Fields>(
  fields: F,
  make: (data: Read<F>, group: JobGroup | undefined) => Action,
  options: { readonly grouped?: true } = {},
): ActionKind {
  // What is handed to `make` was read by this very schema.
  return { ...options, data: record(fields), make: (data, group) => make(data as Read<F>, group) };
}

/** Carries a step out by itself. */
export async function runAction(action: Action): Promise<undefined> {
  try {
    await action.prepare();
    await action.commit?.();
  } finally {
    action.clean?.();
  }
}
