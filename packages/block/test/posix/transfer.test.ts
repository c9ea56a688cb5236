import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { test } from 'node:test';
import { createFile } from '@strata/block';
import { assertSameBytes, requires, run, runOk, temporaryFolder } from '@strata/testkit';

/** A file system of a megabyte, where writes come up short. */
async function smallFileSystem() {
  const folder = await temporaryFolder();
  const path = folder.file('small');
  await mkdir(path);
  const { status, stderr } = await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path]);
  return {
    mounted: status === 0,
    reason: stderr.trim(),
    file: (name: string) => `${path}/${name}`,
    [Symbol.asyncDispose]: async () => {
      if (status === 0) await runOk('umount', [path]);
      await folder[Symbol.asyncDispose]();
    },
  };
}

test(
  'a write that the kernel cuts short for want of space fails with no-space',
  requires('mount'),
  async (t) => {
    await using small = await smallFileSystem();
    if (!small.mounted) return t.skip(`only root may mount: ${small.reason}`);
    await using file = await createFile(small.file('disk'));
    const refusal = { code: 'no-space', message: 'No space left on device' };
    await assert.rejects(file.write(new Uint8Array(2 << 20).fill(7), 0), refusal);
    await assert.rejects(file.zero(0, 2 << 20, { allocate: true }), refusal);
    const into = new Uint8Array(4096);
    await file.read(into, 0);
    await file.truncate(0);
    await file.write(new Uint8Array(100_000).fill(8), 0);
    await file.read(into, 95_904);
    assertSameBytes(into, new Uint8Array(4096).fill(8));
  },
);
