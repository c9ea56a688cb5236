import assert from 'node:assert/strict';
import { stat, truncate, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { alignDown, alignUp, formatSizeAndBytes, parseSize, sizeSentence } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';

const SIZES = [
  '0',
  '512',
  '1k',
  '1K',
  '1.5k',
  '1.5M',
  '10G',
  ' 1024',
  '+1024',
  '0x400',
  '0X400',
  '1.k',
  '3.7T',
  '01k',
  '1.0',
  '.5k',
  '2.5g',
  '0.5M',
  '8192b',
  '8192B',
  '1.999755859375M',
];
const MALFORMED = [
  '',
  'k',
  '1.5',
  '1.5b',
  '-1',
  '-0',
  '1e3',
  '1e1k',
  '5 ',
  '1kk',
  '1kB',
  '1KiB',
  '1,5k',
  '0b1',
  '1_0',
  'nan',
  'infinity',
  '0x',
  '0x1.8k',
  '.k',
  '--1',
];

test('sizes are read as qemu-img reads them', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  for (const [index, text] of [...SIZES, ...MALFORMED].entries()) {
    const path = folder.file(String(index));
    const { status, stderr } = await qemuImg.run('create', '-q', '-f', 'raw', path, '--', text);
    const size = parseSize(text);
    if (status === 0) {
      // A raw image is made in whole sectors.
      assert.equal(alignUp(size as number, 512), (await stat(path)).size, JSON.stringify(text));
    } else {
      assert.equal(size, 'malformed', JSON.stringify(text));
      assert.equal(stderr.replaceAll('qemu-img: ', '').trimEnd(), sizeSentence('image size', 'malformed'));
    }
  }
});

test(
  'sizes that a number cannot hold are out of range, in the words of qemu-img',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    for (const text of ['8E', '16E', '9223372036854775808', '99999999999999999999', '1000000000000P']) {
      const { stderr } = await qemuImg.run('create', '-q', '-f', 'raw', folder.file('x'), text);
      assert.equal(parseSize(text), 'out of range', text);
      assert.equal(
        stderr.trimEnd(),
        `qemu-img: ${sizeSentence('image size', 'out of range').replace('9007199254740991', '9223372036854775807')}`,
      );
    }
    assert.equal(parseSize('8P'), 'out of range');
    assert.equal(parseSize('9007199254740991'), 2 ** 53 - 1);
  },
);

test('sizes are written as qemu-img info writes them', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk');
  await writeFile(path, '');
  for (const size of [
    0, 512, 1024, 1536, 10_240, 999_424, 1_000_448, 1_023_488, 1_024_000, 1_047_552, 1_048_576, 1_572_864,
    1_073_741_824, 123_456_789_504, 1_099_511_627_776,
  ]) {
    await truncate(path, size);
    const text = await qemuImg.ok('info', '-f', 'raw', path);
    assert.equal(formatSizeAndBytes(size), /virtual size: (.*)/.exec(text)?.[1]);
  }
});

test('alignment goes to the nearest multiple, also above 2^32', () => {
  assert.equal(alignDown(1023, 512), 512);
  assert.equal(alignUp(1025, 512), 1536);
  assert.equal(alignUp(1024, 512), 1024);
  assert.equal(alignDown(2 ** 52 + 5, 4096), 2 ** 52);
  assert.equal(alignUp(2 ** 52 + 5, 4096), 2 ** 52 + 4096);
  assert.equal(alignUp(0, 512), 0);
});
