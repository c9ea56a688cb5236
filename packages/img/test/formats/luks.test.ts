/** Encrypted images by the command, with qemu-img at the other end, and what it must never say. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

const WORDS = 'a passphrase that nobody may see';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  const texts = { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
  assert.ok(!`${texts.stdout}${texts.stderr}`.includes(WORDS), 'the passphrase is told');
  return texts;
}

const done = { status: 0, stdout: '', stderr: '' };

for (const [format, prefix] of [
  ['luks', ''],
  ['qcow2', 'encrypt.'],
] as const) {
  test(
    `convert goes into a ${format} image and out of it, here and with qemu-img`,
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      const [key, source, image, back] = ['key', 'source', 'image', 'back'].map(folder.file) as [
        string,
        string,
        string,
        string,
      ];
      writeFileSync(key, WORDS);
      const secret = ['--object', `secret,id=s,file=${key}`];
      const bytes = Buffer.concat([randomBytes(300_000), Buffer.alloc(400_000), randomBytes(86_432)]);
      writeFileSync(source, bytes);
      const list = `${prefix}key-secret=s,${prefix}iter-time=10${format === 'qcow2' ? ',encrypt.format=luks' : ''}`;
      assert.deepEqual(
        await img('convert', ...secret, '-f', 'raw', '-O', format, '-o', list, source, image),
        done,
      );
      const options = `driver=${format},${prefix}key-secret=s,file.filename=${image}`;
      assert.deepEqual(await img('convert', ...secret, '--image-opts', '-O', 'raw', options, back), done);
      assert.ok(readFileSync(back).subarray(0, bytes.length).equals(bytes));
      await qemuImg.ok('convert', ...secret, '--image-opts', '-O', 'raw', options, back);
      assert.ok(readFileSync(back).subarray(0, bytes.length).equals(bytes));

      writeFileSync(source, randomBytes(bytes.length));
      const into = ['-n', '-f', 'raw', '--target-image-opts', source, options];
      assert.deepEqual(await img('convert', ...secret, ...into), done);
      await qemuImg.ok('convert', ...secret, '--image-opts', '-O', 'raw', options, back);
      assert.ok(readFileSync(back).subarray(0, bytes.length).equals(readFileSync(source)));
      assert.deepEqual(
        await img('compare', ...secret, '--image-opts', options, `driver=raw,file.filename=${source}`),
        {
          ...done,
          stdout: 'Images are identical.\n',
        },
      );
    },
  );
}

test('a wrong passphrase and a missing one end the command, and it tells neither', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('image');
  const made = ['create', '-q', '-f', 'luks', '-o', 'key-secret=s,iter-time=1', image, '1M'];
  assert.deepEqual(await img(...made, '--object', `secret,id=s,data=${WORDS}`), done);
  const options = `driver=luks,key-secret=s,file.filename=${image}`;
  const wrong = await img('map', '--object', `secret,id=s,data=${WORDS}!`, '--image-opts', options);
  assert.deepEqual(
    [wrong.status, wrong.stderr],
    [1, `img: Could not open '${options}': Invalid password, cannot unlock any keyslot\n`],
  );
  const { stderr } = await img('map', '-f', 'luks', image, '--object', `secret,id=s,data=${WORDS}`);
  assert.equal(stderr, `img: Could not open '${image}': Parameter 'key-secret' is required for cipher\n`);
  const both = await img('map', '--object', `secret,id=s,data=${WORDS},file=x`, image);
  assert.equal(both.stderr, "img: 'file' and 'data' are mutually exclusive\n");
  const bad = await img('map', '--object', `secret,id=s,data=${WORDS},format=base64`, image);
  assert.equal(bad.stderr, 'img: Base64 data contains invalid characters\n');
});

test('measure says what qemu-img says', requires('qemu-img'), async () => {
  const secret = ['--object', 'secret,id=s,data=abc'];
  for (const words of [
    ['-O', 'luks', '-o', 'key-secret=s', '--size', '1M'],
    ['-O', 'luks', '--output=json', '-o', 'key-secret=s,cipher-alg=aes-128,cipher-mode=cbc', '--size', '3G'],
    ['-O', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s', '--size', '1M'],
    [
      '-O',
      'qcow2',
      '-o',
      'encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=aes-128,cluster_size=4k',
      '--size',
      '5M',
    ],
  ]) {
    const theirs = await qemuImg.run('measure', ...secret, ...words);
    assert.deepEqual(await img('measure', ...secret, ...words), theirs);
  }
});
