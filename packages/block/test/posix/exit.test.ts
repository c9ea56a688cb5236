import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run } from '@strata/testkit';

const index = fileURLToPath(import.meta.resolve('@strata/block'));

/** Ends a process of its own with `program` before it. */
function end(program: string) {
  const text = `
    import { endProcess, openFile } from ${JSON.stringify(index)};
    process.on('exit', () => console.log('exit handler'));
    ${program}
    await endProcess(3);
  `;
  return run(process.execPath, ['--input-type=module', '--eval', text]);
}

test('the status is the one given, and all output arrives', async () => {
  const open = `await openFile(${JSON.stringify(index)}, { access: 'read' });`;
  const write = `process.stdout.write('x'.repeat(3_000_000)); process.stderr.write('y'.repeat(3_000_000));`;
  const { status, stdout, stderr } = await end(`${open} ${write} setInterval(() => {}, 1000);`);
  assert.equal(status, 3);
  assert.match(stdout, /^x{3000000}(exit handler\n)?$/);
  assert.equal(stderr.length, 3_000_000);
});

test('without the C library the process ends all the same', async () => {
  const { status, stdout } = await end('setInterval(() => {}, 1000);');
  assert.equal(status, 3);
  assert.equal(stdout, 'exit handler\n');
});
