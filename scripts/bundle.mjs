// Bundles the command into one file that starts fast, and keeps the code that V8 makes of it beside it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';

const built = 'packages/img/dist';

// What the package declares beside our own packages is found beside it when it is installed.
const { dependencies } = createRequire(import.meta.url)('../packages/img/package.json');
const external = Object.keys(dependencies).filter((name) => !name.startsWith('@strata/'));

await build({
  stdin: {
    contents: "export { main } from './cli.js'; export { runProgram } from './program.js';",
    resolveDir: `${built}/src`,
  },
  outfile: `${built}/img.cjs`,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  external,
  // `import()` of what is external would load Node's loader for modules, which takes longer than most commands.
  supported: { 'dynamic-import': false },
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
});

// V8 compiles functions when they are first called: those that ran before the cache is made are in it.
const { cache, load } = createRequire(import.meta.url)(`../packages/img/bin/load.js`);
rmSync(cache, { force: true });
const { exports, script } = load();
const folder = mkdtempSync(join(tmpdir(), 'strata-bundle-'));
const image = join(folder, 'image');
const disk = join(folder, 'disk');
writeFileSync(disk, new Uint8Array(2 ** 18).fill(1, 2 ** 16, 2 ** 17));
const silent = { print: () => undefined, warn: () => undefined, live: false };
try {
  for (const line of [
    ['create', '-f', 'qcow2', image, '1M'],
    ['info', image],
    ['info', '--output=json', image],
    ['map', image],
    ['check', image],
    ['convert', '-O', 'qcow2', image, `${image}2`],
    ['convert', '-f', 'raw', '-O', 'qcow2', disk, `${disk}.qcow2`],
    ['convert', '-f', 'qcow2', '-O', 'raw', `${disk}.qcow2`, `${disk}.raw`],
    ['compare', '-f', 'raw', '-F', 'qcow2', disk, `${disk}.qcow2`],
    ...['zlib', 'zstd'].flatMap((type) => [
      [
        'convert',
        '-c',
        '-f',
        'raw',
        '-O',
        'qcow2',
        '-o',
        `compression_type=${type}`,
        disk,
        `${image}-${type}`,
      ],
      ['convert', '-O', 'raw', `${image}-${type}`, `${disk}2`],
    ]),
  ]) {
    const status = await exports.main(line, silent);
    if (status !== 0) throw new Error(`img ${line.join(' ')} ended with ${status}`);
  }
  writeFileSync(cache, script.createCachedData());
} finally {
  rmSync(folder, { recursive: true });
}
