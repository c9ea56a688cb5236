// Bundles the command into one file that starts fast. Source: the compiled img package.
import { build } from 'esbuild';

await build({
  entryPoints: ['packages/img/dist/src/bin.js'],
  outfile: 'packages/img/dist/img.cjs',
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  external: ['koffi'],
  legalComments: 'none',
});
