// Takes a fresh clone to a finished demo or test run, with nothing but Node and npm at hand.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const { status, error } = spawnSync(command, args, {
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (error) console.error(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

const installed = 'node_modules/.package-lock.json';
const isFresh = existsSync(installed) && statSync(installed).mtimeMs >= statSync('package-lock.json').mtimeMs;
// `npm ci` builds as well (the `prepare` script).
if (isFresh) run('npm', ['run', '--silent', 'build']);
else run('npm', ['ci', '--no-audit', '--no-fund']);

const [task, ...rest] = process.argv.slice(2);
if (task === 'demo') {
  run(process.execPath, ['scripts/demo.mjs']);
} else if (task === 'test') {
  run(process.execPath, ['scripts/peers.mjs']);
  run('npm', ['run', '--silent', 'lint']);
  run(process.execPath, ['scripts/run-tests.mjs', ...rest]);
} else {
  console.error('usage: bootstrap.mjs demo|test');
  process.exit(1);
}
