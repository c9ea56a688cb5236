import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openFile } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { qcow2Format } from '../src/layer.ts';
import { mapOf } from './guest.ts';

for (const preallocation of ['off', 'metadata', 'falloc', 'full']) {
  const title = `map of an image made with preallocation=${preallocation} is qemu-img's`;
  test(title, requires('qemu-img', 'qemu-io'), async () => {
    await using folder = await temporaryFolder();
    for (const clusterSize of [4096, 65_536]) {
      const path = folder.file('image.qcow2');
      await qemuImg.create(path, 2 ** 21, { options: { preallocation, cluster_size: clusterSize } });
      for (const commands of [[], ['write 100k 300k'], ['write 1M 1M', 'discard 64k 64k'], ['write 0 1M']]) {
        if (commands.length > 0) await qemuIo(path, commands);
        await using file = await openFile(path, { access: 'read' });
        const source = await qcow2Format.openSource(file);
        assert.deepEqual(await mapOf(source), await qemuImg.map(path), `${clusterSize} ${commands}`);
      }
    }
  });
}
