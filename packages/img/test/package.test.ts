/** What is published: the bundle, with what it needs and nothing of this repository. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runOk, temporaryFolder } from '@strata/testkit';

const home = fileURLToPath(new URL('../..', import.meta.url));
const modules = join(home, '../../node_modules');
const manifest = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as {
  readonly dependencies: Readonly<Record<string, string>>;
};

/** The files that `npm pack` would ship. */
function shipped(): readonly string[] {
  const words = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const [packed] = JSON.parse(
    execFileSync('npm', words, { cwd: home, stdio: ['ignore', 'pipe', 'ignore'] }).toString(),
  );
  return (packed.files as readonly { readonly path: string }[]).map(({ path }) => path);
}

test('the published files and the declared dependencies are all that the command needs', async () => {
  await using folder = await temporaryFolder();
  const files = shipped();
  assert.ok(files.includes('dist/img.cjs.cache'), 'the code that V8 made is published beside the bundle');
  const installed = folder.file('node_modules/@strata/img');
  for (const file of files) {
    mkdirSync(dirname(join(installed, file)), { recursive: true });
    cpSync(join(home, file), join(installed, file));
  }
  // What koffi loads lies in packages for one platform each, which it looks for beside itself.
  for (const name of Object.keys(manifest.dependencies).filter((one) => !one.startsWith('@strata/'))) {
    const path = folder.file(`node_modules/${name}`);
    mkdirSync(dirname(path), { recursive: true });
    symlinkSync(join(modules, name), path);
  }
  const img = (...words: readonly string[]) =>
    runOk(process.execPath, [join(installed, 'bin/img.js'), ...words], { cwd: folder.path });
  await img('create', '-q', '-f', 'qcow2', '-o', 'compression_type=zstd', 'a', '1M');
  await img('dd', '-O', 'qcow2', 'if=a', 'of=b');
  await img('rebase', '-b', 'a', '-F', 'qcow2', 'b');
  assert.match(await img('info', 'b'), /backing file: a\n/);
  assert.equal(await img('compare', 'a', 'b'), 'Images are identical.\n');
  assert.match(await img('check', 'b'), /No errors were found/);
});
