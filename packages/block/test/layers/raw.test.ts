import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFile, MemoryDevice, openFile, raw } from '@strata/block';
import { layerSuite, temporaryFolder } from '@strata/testkit';

layerSuite({
  name: 'a raw image in a file',
  size: 300_001,
  backed: false,
  open: async () => {
    const folder = await temporaryFolder();
    const path = folder.file('disk.raw');
    let file = await createFile(path);
    await file.truncate(300_001);
    return {
      layer: await raw.open(file),
      reopen: async () => {
        await file[Symbol.asyncDispose]();
        file = await openFile(path, { access: 'write' });
        return raw.open(file);
      },
      [Symbol.asyncDispose]: async () => {
        await file[Symbol.asyncDispose]();
        await folder[Symbol.asyncDispose]();
      },
    };
  },
});

test('its size is the size of the file to the byte, and every range lies in the file', async () => {
  await using file = new MemoryDevice(1001);
  const layer = await raw.openSource(file);
  assert.equal(layer.size, 1001);
  assert.deepEqual(await layer.map(1000, 500), {
    kind: 'raw',
    device: file,
    at: 1000,
    length: 1,
    sparse: true,
  });
});

test('no bytes make a file raw', () => {
  assert.equal(raw.matches(new Uint8Array(512)), false);
});
