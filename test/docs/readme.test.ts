/** The programs that the READMEs show compile against the packages as they are. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../../', import.meta.url));
/** Inside the project, so that the packages are found by their names. */
const folder = fileURLToPath(new URL('../readme/', import.meta.url));
const tsc = `${root}node_modules/typescript/bin/tsc`;

test('every program that a README shows compiles', async () => {
  const packages = (await readdir(`${root}packages`)).map((name) => `packages/${name}/README.md`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const names: string[] = [];
  for (const path of ['README.md', ...packages]) {
    const text = await readFile(root + path, 'utf8').catch(() => '');
    for (const [, program = ''] of text.matchAll(/```ts\n([\s\S]*?)```/g)) {
      const name = `${path.replaceAll('/', '-')}-${names.length}.mts`;
      await writeFile(folder + name, program);
      names.push(name);
    }
  }
  assert.ok(names.length >= 6, `${names.length} programs found`);
  const options = {
    extends: `${root}tsconfig.base.json`,
    compilerOptions: { noEmit: true, composite: false, incremental: false, noUnusedLocals: false },
    include: ['*.mts'],
  };
  await writeFile(`${folder}tsconfig.json`, JSON.stringify(options));
  await promisify(execFile)(process.execPath, [tsc, '-p', folder]).catch((error: { stdout: string }) => {
    assert.fail(error.stdout);
  });
});
