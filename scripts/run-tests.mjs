// Runs the built tests: all of them, or those whose path contains one of the words given.
// The list is made from the sources, so that a test that was removed does not run from an old build.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** @param {string} folder @returns {string[]} */
function testsIn(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((path) => !path.includes(`${sep}node_modules${sep}`) && !path.includes(`${sep}dist${sep}`));
}

/** @param {string} source @param {string} base */
const built = (source, base) => join(base, 'dist', relative(base, source)).replace(/\.ts$/, '.js');

const packages = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name));
const words = process.argv.slice(2);
const files = [
  ...packages.map((base) => [join(base, 'test'), base]),
  [join(root, 'test'), join(root, 'test')],
]
  .flatMap(([folder, base]) => testsIn(folder).map((source) => built(source, base)))
  .map((file) => relative(root, file))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();
if (files.length === 0) {
  console.error('no tests match');
  process.exit(1);
}
const args = ['--test', '--test-concurrency=2', '--test-reporter=spec', ...files];
const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
process.exit(status ?? 1);
