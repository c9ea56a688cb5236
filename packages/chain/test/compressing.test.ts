import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deviceWindow, type HostFile, type ImageFormat, MemoryDevice, raw } from '@strata/block';
import { compressingDevice, denyAll, openWritableChain, type WritableChain } from '@strata/chain';

interface Written {
  readonly offset: number;
  readonly length: number;
  readonly level: number | undefined;
}

/** A raw disk that claims to compress, and tells what it was given to compress. */
async function opened(written: Written[] | undefined): Promise<WritableChain> {
  const host = new MemoryDevice(1 << 20) as MemoryDevice & HostFile;
  const format: ImageFormat = {
    ...raw,
    open: async (file) => {
      const layer = await raw.open(file);
      if (written === undefined) return layer;
      return Object.assign(layer, {
        compression: { unit: 65_536, levels: { least: 1, most: 5 } },
        writeCompressed: async (from: Uint8Array, offset: number, _: unknown, how?: { level?: number }) => {
          written.push({ offset, length: from.length, level: how?.level });
        },
      });
    },
  };
  const place = { host, identity: 'a', realPath: undefined, lock: async () => {} };
  return openWritableChain('disk', {
    formats: [format],
    gate: denyAll,
    places: { openFile: async () => place, openSource: async () => place },
    format: 'raw',
  });
}

test('what is written goes to the compressing side of the top, with the level', async () => {
  const written: Written[] = [];
  await using chain = await opened(written);
  const device = compressingDevice(chain, { level: 3 });
  assert.equal(device.caps.blockSize, 65_536);
  await device.write(new Uint8Array(65_536), 131_072);
  assert.deepEqual(written, [{ offset: 131_072, length: 65_536, level: 3 }]);
  await device.zero(0, 65_536);
  const read = new Uint8Array(16).fill(1);
  await device.read(read, 0);
  assert.deepEqual(read, new Uint8Array(16));
  await assert.rejects(device.write(new Uint8Array(1), 1 << 20), RangeError);
  await device[Symbol.asyncDispose]();
  await deviceWindow(chain.device, 0, 512).write(new Uint8Array(512), 0);
});

test('a level that the format has not, and a format without compression, are refused', async () => {
  await using chain = await opened([]);
  for (const level of [0, 6, Number.NaN])
    assert.throws(() => compressingDevice(chain, { level }), { code: 'invalid' });
  await using plain = await opened(undefined);
  assert.throws(() => compressingDevice(plain), { code: 'not-supported' });
});
