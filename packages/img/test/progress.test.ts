import assert from 'node:assert/strict';
import { test } from 'node:test';
import { liveProgress, showProgress } from '../src/progress.ts';
import { recordingTerminal } from './recording-terminal.ts';

test("elsewhere than on a terminal progress is qemu-img's line, ended once", () => {
  const terminal = recordingTerminal();
  const progress = showProgress(terminal, 1);
  progress.update(1, 8);
  progress.update(8, 8);
  progress.complete();
  progress.end();
  assert.equal(
    terminal.stdout(),
    '    (0.00/100%)\r    (12.50/100%)\r    (100.00/100%)\r    (100.00/100%)\r\n',
  );
});

test('a step that is smaller than asked for is not printed', () => {
  const terminal = recordingTerminal();
  const progress = showProgress(terminal, 2);
  for (let done = 1; done < 100; done++) progress.update(done, 100);
  assert.equal(terminal.stdout().match(/\r/g)?.length, 1 + 33);
});

test('on a terminal the bar shows percent, rate and the time that is left', () => {
  const terminal = recordingTerminal();
  let clockMs = 0;
  const progress = liveProgress(terminal, () => clockMs);
  clockMs = 2000;
  progress.update(50 << 20, 200 << 20);
  assert.ok(terminal.stdout().endsWith(`\r[#######${'-'.repeat(23)}]  25.0%  25 MiB/s  ETA 00:06\x1b[K`));
  progress.complete();
  assert.ok(terminal.stdout().endsWith(`\r[${'#'.repeat(30)}] 100.0%  100 MiB/s  00:02\x1b[K`));
});

test('the bar is not redrawn more often than ten times a second', () => {
  const terminal = recordingTerminal();
  const progress = liveProgress(terminal, () => 0);
  for (let done = 0; done < 1000; done++) progress.update(done, 1000);
  assert.equal(terminal.stdout().match(/\r/g)?.length, 1);
});
