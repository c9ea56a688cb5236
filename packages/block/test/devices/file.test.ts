import assert from 'node:assert/strict';
import { stat, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { createFile, openFile } from '@strata/block';
import { run, temporaryFolder } from '@strata/testkit';

const bytes = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 255);

test('what is written is read back, by both ways, and the file grows', async () => {
  await using folder = await temporaryFolder();
  await using file = await createFile(folder.file('a'));
  const data = bytes(100_000);
  await file.write(data, 12_345);
  assert.equal(file.size, 112_345);
  const again = new Uint8Array(100_010);
  await file.read(again, 12_340);
  assert.deepEqual(again.subarray(5, 100_005), data);
  assert.deepEqual(again.subarray(100_005), new Uint8Array(5));
  again.fill(1);
  assert.equal(file.tryRead(again, 12_340), true);
  assert.deepEqual(again.subarray(5, 100_005), data);
  assert.deepEqual(again.subarray(100_005), new Uint8Array(5));
  await file.flush();
});

test('holes are zero extents, and zeroing makes them', async () => {
  await using folder = await temporaryFolder();
  await using file = await createFile(folder.file('a'));
  await file.write(bytes(1 << 20), 0);
  await file.zero(1 << 18, 1 << 18);
  assert.deepEqual(file.tryExtentAt(0, 1 << 20), { offset: 0, length: 1 << 18, kind: 'data', depth: 1 });
  assert.deepEqual(file.tryExtentAt(1 << 18, 1 << 20), {
    offset: 1 << 18,
    length: 1 << 18,
    kind: 'zero',
    depth: 1,
  });
  await file.zero(1 << 20, 1 << 20);
  assert.equal(file.size, 2 << 20);
  assert.equal((await stat(file.path)).size, 2 << 20);
  assert.equal(await file.allocated(), 3 << 18);
});

test('a FIFO and a folder are refused at once, in the words of qemu', async () => {
  await using folder = await temporaryFolder();
  await run('mkfifo', [folder.file('p')]);
  for (const path of [folder.file('p'), folder.path, '/dev/null']) {
    await assert.rejects(openFile(path, { access: 'read' }), {
      code: 'not-supported',
      message: `'file' driver requires '${path}' to be a regular file`,
    });
  }
  await assert.rejects(openFile(folder.file('x'), { access: 'read' }), {
    code: 'not-found',
    message: 'No such file or directory',
  });
  await writeFile(folder.file('f'), 'x');
  await assert.rejects(createFile(folder.file('f'), { exclusive: true }), { code: 'exists' });
});
