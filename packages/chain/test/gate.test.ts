import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { allowFolders, allowLocal, denyAll } from '../src/gate.ts';

const denied = (error: unknown) => isDiskError(error, 'denied');
const named = (name: string) => ({ name, format: 'qcow2' });

test('the folder policy admits what lies in the folder or below it, and nothing beside it', async () => {
  await using folder = await temporaryFolder();
  const images = folder.file('images');
  await mkdir(folder.file('images/sub'), { recursive: true });
  await mkdir(folder.file('images-evil'));
  for (const file of ['images/base', 'images/sub/base', 'images-evil/base', 'secret']) {
    await writeFile(folder.file(file), '');
  }
  await symlink(folder.file('secret'), folder.file('images/link'));
  await symlink('base', folder.file('images/good-link'));
  const gate = allowFolders([images]);
  const top = folder.file('images/top');

  assert.equal(await gate.resolve(named('base'), top), folder.file('images/base'));
  assert.equal(await gate.resolve(named('sub/base'), top), folder.file('images/sub/base'));
  assert.equal(await gate.resolve(named('good-link'), top), folder.file('images/good-link'));
  assert.equal(await gate.resolve(named('absent'), top), folder.file('images/absent'));
  for (const name of [
    '../secret',
    folder.file('secret'),
    'link',
    '../images-evil/base',
    'sub/../../secret',
    '/etc/passwd',
  ]) {
    await assert.rejects(gate.resolve(named(name), top), denied, name);
  }
});

test('the folder policy judges the file that was opened, not only its name', async () => {
  await using folder = await temporaryFolder();
  const gate = allowFolders([folder.path]);
  await gate.admit(folder.file('base'), named('base'), folder.file('top'));
  await assert.rejects(gate.admit('/etc/passwd', named('base'), folder.file('top')), denied);
});

test('the strict policy follows nothing, the local policy any local path', async () => {
  await assert.rejects(denyAll.resolve(named('base'), '/images/top'), denied);
  assert.equal(await allowLocal.resolve(named('/srv/base'), '/images/top'), '/srv/base');
  await assert.rejects(allowLocal.resolve(named('json:{}'), '/images/top'), denied);
});
