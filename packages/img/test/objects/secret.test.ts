/** Secrets in all their forms; sentences are those of qemu-img 7.2 (golden/qemu-img/encryption has more of them). */
import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { temporaryFolder } from '@strata/testkit';
import { makeObjects } from '../../src/objects/objects.ts';
import { passphraseOf } from '../../src/objects/secret.ts';

const textOf = async (...definitions: readonly string[]): Promise<string> =>
  Buffer.from(passphraseOf(await makeObjects(definitions), 's')).toString();

test('a secret is text, a file, or either in base64', async () => {
  await using folder = await temporaryFolder();
  const file = folder.file('secret');
  writeFileSync(file, 'from a file\n');
  assert.equal(await textOf('secret,id=s,data=a,,b=c'), 'a,b=c');
  assert.equal(await textOf(`secret,id=s,file=${file}`), 'from a file\n', 'its last newline is part of it');
  assert.equal(await textOf('secret,id=s,data=YWJj,format=base64'), 'abc');
  writeFileSync(file, 'YWJj\n');
  assert.equal(await textOf(`secret,id=s,file=${file},format=base64`), 'abc');
  assert.equal(await textOf('{"qom-type":"secret","id":"s","data":"größer"}'), 'größer');
  assert.equal(await textOf('secret,id=s,data='), '');
});

test('a secret under another one is deciphered', async () => {
  const [key, iv] = [Buffer.alloc(32, 1), Buffer.alloc(16, 2)];
  const cipher = createCipheriv('aes-256-cbc', key, iv);
  const data = Buffer.concat([cipher.update('hidden words'), cipher.final()]).toString('base64');
  const master = `secret,id=m,format=base64,data=${key.toString('base64')}`;
  const hidden = `secret,id=s,format=base64,keyid=m,iv=${iv.toString('base64')},data=${data}`;
  assert.equal(await textOf(master, hidden), 'hidden words');
  const other = `secret,id=m,format=base64,data=${Buffer.alloc(32, 3).toString('base64')}`;
  await assert.rejects(
    textOf(other, hidden),
    /^CommandError: Incorrect number of padding bytes \(\d+\) found on decrypted data$/,
  );
});

test('what no passphrase can be is refused without telling it', async () => {
  const objects = await makeObjects([
    'secret,id=nul,data=c2VjAHJldA==,format=base64',
    'secret,id=bytes,data=//79,format=base64',
  ]);
  for (const id of ['nul', 'bytes'])
    assert.throws(() => passphraseOf(objects, id), {
      code: 'invalid',
      message: `Data from secret ${id} is not valid UTF-8`,
    });
  assert.throws(() => passphraseOf(objects, 'none'), { message: "No secret with id 'none'" });
});
