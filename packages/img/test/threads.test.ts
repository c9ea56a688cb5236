import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { main } from '../src/cli.ts';
import { sizeThreadPool, type ThreadUse } from '../src/threads.ts';
import { recordingTerminal } from './recording-terminal.ts';

async function usesOf(...words: string[]): Promise<readonly ThreadUse[]> {
  const uses: ThreadUse[] = [];
  await main(words, recordingTerminal(), (use) => uses.push(use));
  return uses;
}

test('a command says what its threads will do before it does anything', async () => {
  assert.deepEqual(await usesOf('convert', '/nowhere/a', '/nowhere/b'), ['copying']);
  assert.deepEqual(await usesOf('convert', '-c', '-O', 'qcow2', '/nowhere/a', '/nowhere/b'), ['compressing']);
  assert.deepEqual(await usesOf('commit', '/nowhere/a'), ['copying']);
  assert.deepEqual(await usesOf('info', '/nowhere/a'), ['serving']);
});

test('a copy leaves one processor to the event loop, everything else has at least four threads', (context) => {
  const before = process.env['UV_THREADPOOL_SIZE'];
  context.after(() => {
    if (before === undefined) delete process.env['UV_THREADPOOL_SIZE'];
    else process.env['UV_THREADPOOL_SIZE'] = before;
  });
  const sizeFor = (use: ThreadUse): number => {
    delete process.env['UV_THREADPOOL_SIZE'];
    sizeThreadPool(use);
    return Number(process.env['UV_THREADPOOL_SIZE']);
  };
  assert.equal(sizeFor('copying'), Math.max(1, availableParallelism() - 1));
  assert.equal(sizeFor('compressing'), Math.max(4, availableParallelism()));
  assert.equal(sizeFor('serving'), Math.max(4, availableParallelism()));
});

test('who starts the command decides, if they say a size', (context) => {
  const before = process.env['UV_THREADPOOL_SIZE'];
  context.after(() => {
    if (before === undefined) delete process.env['UV_THREADPOOL_SIZE'];
    else process.env['UV_THREADPOOL_SIZE'] = before;
  });
  process.env['UV_THREADPOOL_SIZE'] = '7';
  sizeThreadPool('copying');
  assert.equal(process.env['UV_THREADPOOL_SIZE'], '7');
});
