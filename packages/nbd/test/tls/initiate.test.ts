import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isDiskError } from '@strata/block';
import { requires, type TemporaryFolder, temporaryFolder, tlsFolder } from '@strata/testkit';
import { openNbd } from '../../src/client/device.ts';
import { listExports } from '../../src/client/list.ts';
import type { ClientTls, ServerTls } from '../../src/tls/credentials.ts';
import { readCertificateFolder, readKeyFolder } from '../../src/tls/folder.ts';
import { type Serving, serving } from '../server/serving.ts';
import { testDisk } from '../server/test-disk.ts';

describe('TLS', requires('openssl'), () => {
  let folder: TemporaryFolder;
  let dir: string;
  before(async () => {
    folder = await temporaryFolder();
    dir = join(folder.path, 'pki');
    await tlsFolder(dir);
  });
  after(() => folder[Symbol.asyncDispose]());

  const start = (tls: ServerTls): Promise<Serving> =>
    serving({ tls, exports: [{ name: '', device: testDisk({ size: 64 * 1024 * 1024 }).device }] });
  const roundTrip = async (serve: Serving, tls: ClientTls, connections = 1): Promise<void> => {
    await using disk = await openNbd(serve.uri(), { tls, connections });
    assert.ok(disk.device);
    for (const [length, offset] of [
      [1, 7],
      [4096, 8192],
      [300_000, 123_456],
      [9_000_000, 1_000_001],
    ] as const) {
      const bytes = Buffer.alloc(length, `${length}.`);
      await disk.device.write(bytes, offset);
      const back = Buffer.alloc(length);
      await disk.device.read(back, offset);
      assert.ok(back.equals(bytes), `${length} bytes`);
    }
    await disk.device.flush();
  };

  test('carries reads and writes with certificates', async () => {
    await using serve = await start({ credentials: readCertificateFolder(dir, 'server') });
    await roundTrip(serve, { credentials: readCertificateFolder(dir, 'client') });
    await roundTrip(serve, { credentials: readCertificateFolder(dir, 'client') }, 4);
  });

  test('carries reads and writes with pre-shared keys', async () => {
    await using serve = await start({ credentials: readKeyFolder(dir) });
    await roundTrip(serve, { credentials: readKeyFolder(dir), username: 'alice' });
    await roundTrip(serve, { credentials: readKeyFolder(dir), username: 'bob' }, 4);
    const { address } = serve.server;
    assert.ok('path' in address);
    const tls = { credentials: readKeyFolder(dir), username: 'bob' };
    assert.deepEqual(await listExports(address, { tls }), [{ name: '', description: undefined }]);
    await assert.rejects(listExports(address), (error) => isDiskError(error, 'denied'));
  });
});
