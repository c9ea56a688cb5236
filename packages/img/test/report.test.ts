import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandError, reportFailure } from '../src/report.ts';
import { recordingTerminal } from './recording-terminal.ts';

/** Fails when it is tidied up. */
function failing(sentence: string): Disposable {
  return {
    [Symbol.dispose]: () => {
      throw new CommandError(sentence, { status: 4 });
    },
  };
}

function work(): void {
  using _last = failing('tidying up failed too');
  using _first = failing('tidying up failed');
  throw new CommandError('the work failed', { status: 3 });
}

test('what went wrong first is told, and not what tidying up met afterwards', () => {
  const terminal = recordingTerminal();
  let status: number | undefined;
  try {
    work();
  } catch (error) {
    status = reportFailure(terminal, error);
  }
  assert.deepEqual([status, terminal.stderr()], [3, 'img: the work failed\n']);
});
