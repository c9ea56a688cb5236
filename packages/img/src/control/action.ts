/**
 * A step of a transaction: it is done so that it can be undone until all steps have been done.
 *
 * QEMU: blockdev.c, `TransactionActionDrv`.
 */
import { type Fields, type Read, record, type Schema } from '@strata/qmp';

/** How jobs of one transaction end: each by itself, or all or none. */
export type CompletionMode = 'individual' | 'grouped';

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
  make(data: unknown, mode: CompletionMode): Action;
}

/** A kind of step whose data has these members. */
export function actionKind<F extends Fields>(
  fields: F,
  make: (data: Read<F>, mode: CompletionMode) => Action,
  options: { readonly grouped?: true } = {},
): ActionKind {
  // What is handed to `make` was read by this very schema.
  return { ...options, data: record(fields), make: (data, mode) => make(data as Read<F>, mode) };
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
