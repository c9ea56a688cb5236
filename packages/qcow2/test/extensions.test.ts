import assert from 'node:assert/strict';
import { test } from 'node:test';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { ourRefusal, type Poke, poke, qemuRefusal } from './refusals.ts';

test('broken extensions are refused in the words of QEMU', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  const rows: readonly (readonly [code: string, pokes: readonly Poke[]])[] = [
    // Backing format of 16 bytes; the table of feature names becomes the victim.
    ['corrupt', [[112, 'e2792aca00000010']]],
    ['corrupt', [[112, '0537be7700000010']]],
    [
      'corrupt',
      [
        [32, '00000002'],
        [112, '0537be7700000011'],
      ],
    ],
    [
      'corrupt',
      [
        [32, '00000002'],
        [112, '0537be77000000100000000000000200'],
      ],
    ],
    ['corrupt', [[112, '2385287500000010']]],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '23852875000000180000000000000000'],
      ],
    ],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '23852875000000180000000100000001'],
      ],
    ],
    [
      'limit',
      [
        [88, '0000000000000001'],
        [112, '23852875000000180001000000000000'],
      ],
    ],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '2385287500000018000000010000000000000000000000200000000000010200'],
      ],
    ],
    [
      'limit',
      [
        [88, '0000000000000001'],
        [112, '2385287500000018000000010000000000000000080000000000000000010000'],
      ],
    ],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '2385287500000018000000010000000000000000000000000000000000010000'],
      ],
    ],
  ];
  for (const [code, pokes] of rows) {
    await qemuImg.create(path, '64M');
    await poke(path, ...pokes);
    const message = await qemuRefusal(path, '-r');
    assert.deepEqual(await ourRefusal(path), { code, message }, JSON.stringify(pokes));
  }
});

test('unknown features are named from the feature name table', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, '1M');
  const name = Buffer.alloc(48, 0);
  name.write('\0\x09time travel', 'latin1');
  await poke(path, [72, '0000000000004200'], [120, name.toString('hex')]);
  const refusal = await ourRefusal(path);
  assert.equal(refusal?.message, await qemuRefusal(path));
  assert.match(refusal?.message ?? '', /time travel, Unknown incompatible feature: 4000$/);
});
