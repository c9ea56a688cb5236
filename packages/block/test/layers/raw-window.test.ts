import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFile, isDiskError, MemoryDevice, openFile, raw, rawWindow } from '@strata/block';
import { layerSuite, temporaryFolder } from '@strata/testkit';

for (const [name, offset, size, file] of [
  ['a raw image behind 1000 other bytes of its file', 1000, undefined, 301_001],
  ['a raw image inside its file', 512, 300_032, 400_000],
] as const) {
  layerSuite({
    name,
    size: size ?? file - offset,
    backed: false,
    open: async () => {
      const folder = await temporaryFolder();
      const path = folder.file('disk.raw');
      let host = await createFile(path);
      await host.truncate(file);
      const format = rawWindow({ offset, ...(size !== undefined && { size }) });
      return {
        layer: await format.open(host),
        reopen: async () => {
          await host[Symbol.asyncDispose]();
          host = await openFile(path, { access: 'write' });
          return format.open(host);
        },
        [Symbol.asyncDispose]: async () => {
          await host[Symbol.asyncDispose]();
          await folder[Symbol.asyncDispose]();
        },
      };
    },
    skip:
      size === undefined
        ? []
        : (['grow', 'shrink'] as const).map((law) => ({ law, reason: 'its size is fixed' })),
  });
}

test('what lies around it stays as it is, and its ranges are places in the whole file', async () => {
  await using file = new MemoryDevice(4096);
  await file.write(new Uint8Array(4096).fill(1), 0);
  const layer = await rawWindow({ offset: 512, size: 1024 }).open(file);
  await layer.write(new Uint8Array(1024).fill(2), 0, file);
  await layer.zero(512, 512, file, {});
  const bytes = new Uint8Array(4096);
  await file.read(bytes, 0);
  const expected = new Uint8Array(4096).fill(1).fill(2, 512, 1024).fill(0, 1024, 1536);
  assert.deepEqual(bytes, expected);
  const mapping = await layer.map(100, 5000);
  assert.deepEqual(mapping, { kind: 'raw', device: file, at: 612, length: 924, sparse: true });
});

/** The sentences are qemu-img's. */
const refused = [
  [{ offset: 4097 }, 'Offset (4097) cannot be greater than size of the containing file (4096)'],
  [
    { offset: 512, size: 4096 },
    'The sum of offset (512) and size (4096) has to be smaller or equal to the  actual size of the containing file (4096)',
  ],
  [{ size: 1000 }, 'Specified size is not multiple of 512'],
] as const;

for (const [window, sentence] of refused) {
  test(`${JSON.stringify(window)} of 4096 bytes is refused`, async () => {
    await using file = new MemoryDevice(4096);
    const format = rawWindow(window);
    const isRefusal = (error: unknown) => isDiskError(error, 'invalid') && error.message === sentence;
    await assert.rejects(format.openSource(file), isRefusal);
    await assert.rejects(format.open(file), isRefusal);
  });
}

test('one of fixed size keeps it', async () => {
  await using file = new MemoryDevice(4096);
  const layer = await rawWindow({ size: 1024 }).open(file);
  await assert.rejects(layer.resize(2048, file), (error) => isDiskError(error, 'not-supported'));
  assert.equal(raw.name, rawWindow({}).name);
});
