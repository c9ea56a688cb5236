import assert from 'node:assert/strict';
import { test } from 'node:test';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { noExtensions } from '../src/extensions.ts';
import { unsupportedFor } from '../src/features.ts';
import { hostOffset } from '../src/geometry.ts';
import { type Header, readHeader } from '../src/header.ts';
import { openHost } from './host.ts';
import { poke, qemuRefusal } from './refusals.ts';

async function plainHeader(path: string): Promise<Header> {
  await using file = await openHost(path);
  await createQcow2(file, { size: 2 ** 20 });
  return await readHeader(file);
}

test('features decide whether an image can be read and written', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const plain = await plainHeader(folder.file('image.qcow2'));
  const codes = (change: Partial<Header>): readonly (string | undefined)[] => {
    const header = { ...plain, ...change };
    return [unsupportedFor(header, 'read')?.code, unsupportedFor(header, 'write')?.code];
  };
  assert.deepEqual(codes({}), [undefined, undefined]);
  assert.deepEqual(codes({ incompatible: 1n }), [undefined, undefined]);
  assert.deepEqual(codes({ incompatible: 2n }), [undefined, 'corrupt']);
  assert.deepEqual(codes({ incompatible: 4n }), ['corrupt', 'corrupt']);
  const dataFile = { ...noExtensions, dataFile: Buffer.from('data') };
  assert.deepEqual(codes({ incompatible: 4n, extensions: dataFile }), [undefined, undefined]);
  assert.deepEqual(codes({ incompatible: 8n, compressionType: 1 }), [undefined, undefined]);
  assert.deepEqual(codes({ incompatible: 16n }), [undefined, undefined]);
  assert.deepEqual(codes({ cryptMethod: 1 }), [undefined, 'not-supported']);
  assert.deepEqual(codes({ cryptMethod: 2 }), ['corrupt', 'corrupt']);
  const encryption = { at: hostOffset(65_536), length: 512 };
  const luks = { cryptMethod: 2, extensions: { ...noExtensions, encryption } };
  assert.deepEqual(codes(luks), [undefined, undefined]);
  assert.deepEqual(codes({ autoclear: 2n }), ['corrupt', 'corrupt']);
  await qemuImg.create(folder.file('corrupt.qcow2'), '1M');
  await poke(folder.file('corrupt.qcow2'), [72, '0000000000000002']);
  const theirs = await qemuRefusal(folder.file('corrupt.qcow2'));
  assert.equal(unsupportedFor({ ...plain, incompatible: 2n }, 'write')?.message, theirs);
});
