// `npm run bench [raw] [qcow2] [commands]`: brings in the peers and prints the ratios to them.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
for (const args of [['scripts/peers.mjs'], ['test/dist/perf/bench.js', ...process.argv.slice(2)]]) {
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
